/* Ends calls of the client library that do not come back: a send has no deadline of its own, and
 * some waits are infinite. The watchdog shuts the socket down, and the call fails. */
#ifndef LEVERET_BROKER_WATCHDOG_H
#define LEVERET_BROKER_WATCHDOG_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define LVT_WATCHES 3 /* one for each link */

/* One thread's connection. */
struct lvt_watch {
    struct lvt_watchdog *dog;
    int fd;               /* a duplicate: the library may close its own at any time; -1: none */
    uint64_t due_ms;      /* the call in progress must be over by then; 0: none is in progress */
    uint64_t last_due_ms; /* no call may last longer than this; 0: no such limit */
};

struct lvt_watchdog {
    pthread_mutex_t mutex;
    pthread_t thread;
    bool started;
    bool stop;
    int wake_fd;
    struct lvt_watch watches[LVT_WATCHES];
};

enum leveret_code lvt_watchdog_init(struct lvt_watchdog *dog, struct leveret_error *err);
enum leveret_code lvt_watchdog_start(struct lvt_watchdog *dog, struct leveret_error *err);
/* Joins the thread. */
void lvt_watchdog_stop(struct lvt_watchdog *dog);
void lvt_watchdog_free(struct lvt_watchdog *dog);

/* The thread's own calls. */
enum leveret_code lvt_watch_attach(struct lvt_watch *watch, int fd, struct leveret_error *err);
void lvt_watch_detach(struct lvt_watch *watch);
void lvt_watch_enter(struct lvt_watch *watch, uint64_t limit_ms);
void lvt_watch_leave(struct lvt_watch *watch);

/* From any thread: calls in progress or to come end at that time at the latest. */
void lvt_watch_hurry(struct lvt_watch *watch, uint64_t last_due_ms);

#endif
