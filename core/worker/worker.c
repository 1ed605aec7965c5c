#include "worker/worker.h"

#include <errno.h>
#include <stdlib.h>

#include "base/plain_locale.h"
#include "base/sigpipe.h"
#include "base/thread.h"
#include "lane/embedded.h"
#include "runtime/folder.h"
#include "runtime/native/native_handler.h"

const char *leveret_version(void) {
    return LEVERET_VERSION;
}

/* ---- its making and its end ---- */

/* Frees the worker when it fails. */
static enum leveret_code fill(struct leveret_worker *worker, const struct lvt_config *config,
                              struct leveret_error *err) {
    struct lvt_plain_locale held;
    lvt_plain_locale_hold(&held);
    enum leveret_code code = lvt_config_copy(config, &worker->config, err);
    if (code == LEVERET_OK && worker->config.handlers.count > 0)
        code = lvt_handlers_load(&worker->config, &worker->log, &worker->routes, err);
    lvt_plain_locale_release(&held);
    if (code != LEVERET_OK)
        leveret_worker_free(worker);
    return code;
}

enum leveret_code lvt_worker_new(const struct lvt_config *config, const struct lvt_log *log,
                                 struct leveret_worker **ret_worker, struct leveret_error *err) {
    struct leveret_worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for a worker");
    worker->log = *log;
    enum leveret_code code = fill(worker, config, err);
    if (code == LEVERET_OK)
        *ret_worker = worker;
    return code;
}

enum leveret_code leveret_worker_new(const struct leveret_config *config, leveret_log_sink *sink,
                                     void *sink_ctx, struct leveret_worker **ret_worker,
                                     struct leveret_error *err) {
    enum leveret_code code = lvt_config_check(&config->values, err);
    if (code != LEVERET_OK)
        return code;
    struct leveret_worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for a worker");
    worker->program_log =
        (struct lvt_program_log){(enum lvt_log_format)config->values.log.format, sink, sink_ctx};
    worker->log = lvt_program_log_of(&worker->program_log, config->values.log.level);
    code = fill(worker, &config->values, err);
    if (code == LEVERET_OK)
        *ret_worker = worker;
    return code;
}

void leveret_worker_free(struct leveret_worker *worker) {
    if (!worker)
        return;
    if (worker->has_thread) {
        leveret_worker_stop(worker);
        (void)leveret_worker_join(worker, NULL);
    }
    struct lvt_sigpipe held;
    lvt_sigpipe_hold(&held); /* the lane's connections say goodbye */
    lvt_lane_free(worker->lane);
    lvt_sigpipe_release(&held);
    lvt_routes_free(&worker->routes);
    lvt_config_free(&worker->config);
    free(worker);
}

enum leveret_code leveret_worker_add(struct leveret_worker *worker,
                                     const struct leveret_plugin *plugin,
                                     struct leveret_error *err) {
    struct lvt_handler *handler;
    struct leveret_error why;
    if (atomic_load(&worker->stage) != LVT_WORKER_IDLE)
        return leveret_fail(err, LEVERET_STATE,
                            "the worker runs, or has run: add its handlers before");
    struct lvt_plain_locale held;
    lvt_plain_locale_hold(&held);
    enum leveret_code code =
        lvt_native_handler_make(plugin, &worker->config, &worker->log, &handler, err);
    lvt_plain_locale_release(&held);
    if (code != LEVERET_OK)
        return code;
    code = lvt_handler_options_check(&handler->options, &worker->config, &why);
    if (code == LEVERET_OK)
        code = lvt_routes_add(&worker->routes, handler, &why);
    if (code != LEVERET_OK) {
        lvt_handler_free(handler);
        return leveret_fail(err, code, "%s: %s", plugin->name, why.text);
    }
    return LEVERET_OK;
}

const struct leveret_host *leveret_host(void) {
    return &lvt_native_host;
}

/* ---- running ---- */

enum leveret_code lvt_worker_prepare(struct leveret_worker *worker, struct leveret_error *err) {
    const struct lvt_lane_options options = {&worker->config, &worker->routes, &worker->log,
                                             worker->post};
    struct lvt_lane *lane;
    if (worker->routes.handler_count == 0)
        return leveret_fail(err, LEVERET_CONFIG,
                            "the worker has no handler: add one, or name folders of handlers in "
                            "the key handlers");
    enum leveret_code code = lvt_lane_new(&options, &lane, err);
    if (code != LEVERET_OK)
        return code;
    atomic_store(&worker->lane, lane);
    if (atomic_load(&worker->stopping)) /* it was, before there was a lane to tell */
        lvt_lane_stop(lane);
    return LEVERET_OK;
}

/* A worker runs once: what it has recorded as in hand is not for another run to find. */
static enum leveret_code begin(struct leveret_worker *worker, struct leveret_error *err) {
    int idle = LVT_WORKER_IDLE;
    if (!atomic_compare_exchange_strong(&worker->stage, &idle, LVT_WORKER_RUNNING))
        return leveret_fail(err, LEVERET_STATE,
                            "the worker runs, or has run: make another one for another run");
    enum leveret_code code = lvt_worker_prepare(worker, err);
    if (code != LEVERET_OK)
        atomic_store(&worker->stage, LVT_WORKER_ENDED);
    return code;
}

static enum leveret_code run_lane(struct leveret_worker *worker, struct leveret_error *err) {
    struct lvt_sigpipe held;
    struct lvt_plain_locale held_locale;
    lvt_sigpipe_hold(&held);
    lvt_plain_locale_hold(&held_locale);
    enum leveret_code code = lvt_lane_run(worker->lane, err);
    lvt_plain_locale_release(&held_locale);
    lvt_sigpipe_release(&held);
    atomic_store(&worker->stage, LVT_WORKER_ENDED);
    return code;
}

enum leveret_code leveret_worker_run(struct leveret_worker *worker, struct leveret_error *err) {
    enum leveret_code code = begin(worker, err);
    return code == LEVERET_OK ? run_lane(worker, err) : code;
}

enum leveret_code lvt_worker_run_embedded(struct leveret_worker *worker, int input,
                                          struct leveret_error *err) {
    const struct lvt_embedded_options options = {&worker->config, &worker->routes, &worker->log,
                                                 input};
    struct lvt_sigpipe held;
    lvt_sigpipe_hold(&held);
    enum leveret_code code = lvt_embedded_run(&options, err);
    lvt_sigpipe_release(&held);
    return code;
}

/* ---- in a thread of its own ---- */

static void *thread_main(void *arg) {
    struct leveret_worker *worker = arg;
    (void)run_lane(worker, &worker->outcome);
    return NULL;
}

enum leveret_code leveret_worker_start(struct leveret_worker *worker, struct leveret_error *err) {
    enum leveret_code code = begin(worker, err);
    if (code != LEVERET_OK)
        return code;
    code = lvt_thread_start(&worker->thread, 0, thread_main, worker, err);
    if (code == LEVERET_OK)
        worker->has_thread = true;
    else
        atomic_store(&worker->stage, LVT_WORKER_ENDED);
    return code;
}

enum leveret_code leveret_worker_join(struct leveret_worker *worker, struct leveret_error *err) {
    if (!worker->has_thread)
        return leveret_fail(err, LEVERET_STATE,
                            "the worker has no thread: leveret_worker_start gives it one");
    pthread_join(worker->thread, NULL);
    worker->has_thread = false;
    if (worker->outcome.code == LEVERET_OK)
        return LEVERET_OK;
    return leveret_fail(err, worker->outcome.code, "%s", worker->outcome.text);
}

/* ---- from any thread ---- */

void leveret_worker_stop(struct leveret_worker *worker) {
    int errno_before = errno; /* perhaps of what a signal handler interrupts */
    atomic_store(&worker->stopping, true);
    struct lvt_lane *lane = atomic_load(&worker->lane);
    if (lane)
        lvt_lane_stop(lane);
    errno = errno_before;
}

void leveret_worker_reload(struct leveret_worker *worker) {
    int errno_before = errno; /* perhaps of what a signal handler interrupts */
    struct lvt_lane *lane = atomic_load(&worker->lane);
    if (lane)
        lvt_lane_reload(lane);
    errno = errno_before;
}

bool leveret_worker_ended(const struct leveret_worker *worker) {
    return atomic_load(&worker->stage) == LVT_WORKER_ENDED;
}

bool leveret_worker_ready(const struct leveret_worker *worker) {
    const struct lvt_lane *lane = atomic_load(&worker->lane);
    return lane && atomic_load(&lvt_lane_shown(lane)->ready);
}

uint64_t leveret_worker_count(const struct leveret_worker *worker, int32_t counter) {
    const struct lvt_lane *lane = atomic_load(&worker->lane);
    if (!lane)
        return 0;
    const struct lvt_lane_shown *shown = lvt_lane_shown(lane);
    switch (counter) {
    case LEVERET_COUNT_PROCESSED:
        return atomic_load(&shown->outcomes[LVT_OUTCOME_PROCESSED]);
    case LEVERET_COUNT_FAILED:
        return atomic_load(&shown->outcomes[LVT_OUTCOME_FAILED]);
    case LEVERET_COUNT_RETRIED:
        return atomic_load(&shown->outcomes[LVT_OUTCOME_RETRIED]);
    case LEVERET_COUNT_DUPLICATE:
        return atomic_load(&shown->outcomes[LVT_OUTCOME_DUPLICATE]);
    case LEVERET_COUNT_DROPPED:
        return atomic_load(&shown->outcomes[LVT_OUTCOME_DROPPED]);
    case LEVERET_COUNT_WITHOUT_ID:
        return atomic_load(&shown->events_without_id);
    case LEVERET_COUNT_IN_FLIGHT:
        return atomic_load(&shown->in_flight);
    default:
        return 0;
    }
}
