/* The threads of a blocking plugin: as many as it has been found to need, up to its concurrency. */
#include <errno.h>
#include <time.h>

#include "base/thread.h"
#include "runtime/native/native_state.h"

#define MOMENT_MS 100

void lvt_native_pool_remove(struct lvt_native *native, struct lvt_native_slot *slot) {
    struct lvt_native_slot **at = &native->queued, *before = NULL;
    for (; *at != slot; at = &(*at)->next)
        before = *at;
    *at = slot->next;
    if (native->queued_last == slot)
        native->queued_last = before;
    slot->next = NULL;
    native->queued_count--;
}

/* The event is this thread's until it comes back, which it has its own time for, and then as long
 * as any handler. */
static void take_seat(struct lvt_native_worker *worker, const struct lvt_run *run) {
    struct lvt_blackbox *box = lvt_engine_blackbox(worker->native->engine);
    struct lvt_subject subject;
    if (box && !worker->seat)
        worker->seat = lvt_blackbox_sit(box);
    if (!worker->seat)
        return;
    lvt_run_subject(run, &subject);
    lvt_seat_enter(worker->seat, &subject, run->handler->options.timeout_ms + box->hard_timeout_ms);
}

/* With the lock held, which it lets go while the plugin has the event. */
static void handle(struct lvt_native_worker *worker, struct lvt_native_slot *slot) {
    struct lvt_native *native = worker->native;
    struct leveret_event event = lvt_native_event_of(slot);
    lvt_native_pool_remove(native, slot);
    slot->stage = LVT_SLOT_HANDLED;
    slot->worker = worker;
    native->busy++;
    take_seat(worker, slot->run);
    pthread_mutex_unlock(&native->lock);
    int32_t verdict = native->plugin->handle(native->self, event);
    if (worker->seat)
        lvt_seat_leave(worker->seat);
    if (verdict != LEVERET_PENDING)
        lvt_native_finish(event, verdict, NULL, -1);
    pthread_mutex_lock(&native->lock);
    native->busy--;
    if (lvt_native_slot_of(event))
        slot->worker = NULL; /* pending: somebody else has it now */
    if (worker->stuck)
        native->stuck--;
    worker->stuck = false;
    if (native->stopping)
        pthread_cond_broadcast(&native->work); /* to whoever stops the pool */
}

static void *work(void *ctx) {
    struct lvt_native_worker *worker = ctx;
    struct lvt_native *native = worker->native;
    pthread_mutex_lock(&native->lock);
    while (!native->stopping) {
        if (native->queued)
            handle(worker, native->queued);
        else
            pthread_cond_wait(&native->work, &native->lock);
    }
    bool last_orphan = --native->alive == 0 && native->orphaned;
    struct lvt_seat *seat = worker->seat; /* which is the plugin's memory */
    pthread_mutex_unlock(&native->lock);
    lvt_blackbox_stand(seat);
    if (last_orphan)
        lvt_native_dispose(native);
    return NULL;
}

static bool start_thread(struct lvt_native *native) {
    struct lvt_native_worker *worker = &native->workers[native->worker_count];
    *worker = (struct lvt_native_worker){.native = native};
    if (lvt_thread_start(&worker->thread, 0, work, worker, NULL) != LEVERET_OK)
        return false;
    native->worker_count++;
    native->alive++;
    return true;
}

bool lvt_native_pool_add(struct lvt_native *native, struct lvt_native_slot *slot) {
    bool enough = native->queued_count < native->alive - native->busy;
    if (!enough && native->worker_count < native->threads_max && !start_thread(native) &&
        native->alive == 0)
        return false;
    slot->stage = LVT_SLOT_QUEUED;
    if (native->queued_last)
        native->queued_last->next = slot;
    else
        native->queued = slot;
    native->queued_last = slot;
    native->queued_count++;
    pthread_cond_signal(&native->work);
    return true;
}

/* A thread that has finished its event needs a moment to come back from the plugin; one that is
 * stuck needs nobody knows how long. With the lock held. */
static void await_others(struct lvt_native *native) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_nsec += MOMENT_MS * 1000000L;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    while (native->busy > native->stuck &&
           pthread_cond_timedwait(&native->work, &native->lock, &end) != ETIMEDOUT)
        continue;
}

/* Its code is in use: it goes when the last thread has come back from it. With the lock held. */
static void leave(struct lvt_native *native) {
    const struct lvt_field field = LVT_INTEGER("threads", native->busy);
    lvt_native_log(
        native, NULL, LVT_WARN,
        "the plugin's threads are still at work with events that are over; they are left "
        "to themselves",
        &field, 1);
    pthread_mutex_lock(&native->log_lock);
    native->log = NULL;
    pthread_mutex_unlock(&native->log_lock);
    native->orphaned = true;
    for (uint32_t i = 0; i < native->worker_count; i++)
        pthread_detach(native->workers[i].thread);
}

bool lvt_native_pool_stop(struct lvt_native *native) {
    pthread_mutex_lock(&native->lock);
    native->stopping = true;
    pthread_cond_broadcast(&native->work);
    await_others(native);
    bool left = native->busy > 0;
    if (left)
        leave(native);
    uint32_t count = native->worker_count;
    pthread_mutex_unlock(&native->lock);
    for (uint32_t i = 0; i < count && !left; i++)
        pthread_join(native->workers[i].thread, NULL);
    return !left;
}
