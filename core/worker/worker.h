/* One worker: its configuration, its handlers, and the lane that runs them. What leveret.h offers,
 * and what the program's commands are made of. */
#ifndef LEVERET_WORKER_WORKER_H
#define LEVERET_WORKER_WORKER_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"
#include "config/config.h"
#include "engine/routes.h"
#include "lane/lane.h"
#include "leveret/leveret.h"
#include "worker/log.h"

enum lvt_worker_stage {
    LVT_WORKER_IDLE,
    LVT_WORKER_RUNNING,
    LVT_WORKER_ENDED,
};

struct leveret_worker {
    struct lvt_config config;
    struct lvt_routes routes;
    struct lvt_log log;
    struct lvt_program_log program_log; /* of the program that embeds it */
    const struct lvt_post *post;        /* NULL: nobody supervises it */
    _Atomic(struct lvt_lane *) lane;    /* from the run's begin on, until the worker is freed */
    atomic_int stage;                   /* enum lvt_worker_stage */
    atomic_bool stopping;
    pthread_t thread;
    bool has_thread;
    struct leveret_error outcome; /* of the run in its own thread */
};

struct leveret_config {
    struct lvt_config values;
};

/* Copies the configuration and the log, checks the one, and loads the handlers that it names. */
enum leveret_code lvt_worker_new(const struct lvt_config *config, const struct lvt_log *log,
                                 struct leveret_worker **ret_worker,
                                 struct leveret_error *err) LVT_MUST_CHECK;

/* Makes the lane, which reads every address and connects to none. Once. */
enum leveret_code lvt_worker_prepare(struct leveret_worker *worker,
                                     struct leveret_error *err) LVT_MUST_CHECK;

/* Runs on the memory's own broker, ledger and cache until the events of `input`, one a line, have
 * ended and are settled. */
enum leveret_code lvt_worker_run_embedded(struct leveret_worker *worker, int input,
                                          struct leveret_error *err) LVT_MUST_CHECK;

#endif
