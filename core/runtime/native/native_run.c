/* An event's way through a plugin: how it begins, and how it ends for the two sides, which need not
 * be at the same time. */
#include <stdio.h>
#include <stdlib.h>

#include "base/container.h"
#include "base/utf8.h"
#include "runtime/native/native_call.h"

/* ---- its end ---- */

static void judge(const struct lvt_native_slot *slot, char *text, size_t size,
                  struct lvt_verdict *ret_verdict) {
    static const enum lvt_verdict_kind kinds[] = {
        [LEVERET_DONE] = LVT_VERDICT_DONE,     [LEVERET_RETRY] = LVT_VERDICT_RETRY,
        [LEVERET_REJECT] = LVT_VERDICT_REJECT, [LEVERET_DROP] = LVT_VERDICT_DROP,
        [LEVERET_SNOOZE] = LVT_VERDICT_SNOOZE,
    };
    *ret_verdict = (struct lvt_verdict){.reason = lvt_bytes_of(slot->reason), .after_ms = -1};
    if (slot->verdict < LEVERET_DONE || slot->verdict > LEVERET_SNOOZE) {
        snprintf(text, size, "the plugin's verdict is %d, which is none", slot->verdict);
        ret_verdict->kind = LVT_VERDICT_RETRY;
        ret_verdict->reason = lvt_bytes_of(text);
        return;
    }
    ret_verdict->kind = kinds[slot->verdict];
    if (slot->verdict == LEVERET_RETRY) {
        ret_verdict->after_ms = slot->after_ms < 0 ? -1 : slot->after_ms;
        memcpy(ret_verdict->sqlstate, slot->sqlstate, sizeof slot->sqlstate);
    }
    if (slot->verdict == LEVERET_SNOOZE)
        ret_verdict->after_ms = slot->after_ms < 0 ? 0 : slot->after_ms;
}

/* With the lock held: the run is no more the plugin's affair. */
static void detach(struct lvt_native_slot *slot) {
    slot->run->runtime_data = NULL;
    slot->run = NULL;
    slot->native->attached--;
}

/* Without events there may be no engine to deliver the letter. */
static void unpost_when_idle(struct lvt_native *native) {
    pthread_mutex_lock(&native->lock);
    bool idle = native->attached == 0;
    pthread_mutex_unlock(&native->lock);
    if (idle)
        lvt_engine_unpost(native->engine, &native->letter);
}

/* Takes what the slot asked for and has no answer to. With the lock held. */
static struct lvt_native_call *take_calls(struct lvt_native_slot *slot) {
    struct lvt_native *native = slot->native;
    struct lvt_native_call *calls = slot->calls, *before = NULL, *next;
    slot->calls = NULL;
    slot->call_count = 0;
    for (struct lvt_native_call *call = native->asked; call; call = next) {
        next = call->next;
        if (call->slot != slot) {
            before = call;
            continue;
        }
        if (before)
            before->next = next;
        else
            native->asked = next;
        if (native->asked_last == call)
            native->asked_last = before;
        call->next = calls;
        calls = call;
    }
    return calls;
}

/* On the loop's thread: the slot has its verdict, and its run goes on. */
static void end_run(struct lvt_native_slot *slot) {
    struct lvt_native *native = slot->native;
    struct lvt_run *run = slot->run;
    struct lvt_engine *engine = run->engine;
    struct lvt_verdict verdict;
    char text[80];
    lvt_run_enter(run); /* the plugin may hear that its calls are over */
    judge(slot, text, sizeof text, &verdict);
    pthread_mutex_lock(&native->lock);
    struct lvt_native_call *calls = take_calls(slot);
    detach(slot);
    pthread_mutex_unlock(&native->lock);
    lvt_run_finish(run, &verdict);
    pthread_mutex_lock(&native->lock);
    lvt_native_slot_release(slot); /* the verdict's reason was in it */
    pthread_mutex_unlock(&native->lock);
    unpost_when_idle(native);
    lvt_native_calls_cancel(calls);
    lvt_run_leave(engine);
}

/* With the lock held, of an event that is not finished. True: the loop's thread is to end the run.
 */
static bool finish(struct lvt_native_slot *slot, int32_t verdict, const char *reason,
                   int64_t after_ms) {
    struct lvt_native *native = slot->native;
    atomic_fetch_add(&slot->generation, 1);
    slot->worker = NULL;
    slot->verdict = verdict;
    slot->after_ms = after_ms;
    if (!slot->run) {
        native->over--;
        lvt_native_slot_release(slot);
        return false;
    }
    slot->reason = reason ? strndup(reason, LVT_REASON_MAX + 1) : NULL;
    slot->stage = LVT_SLOT_FINISHED;
    if (pthread_equal(pthread_self(), native->loop))
        return true;
    slot->next = native->finished;
    native->finished = slot;
    lvt_engine_post(native->engine, &native->letter);
    return false;
}

int32_t lvt_native_finish(struct leveret_event event, int32_t verdict, const char *reason,
                          int64_t after_ms) {
    struct lvt_native_slot *slot = event.slot;
    if (!slot)
        return LEVERET_PENDING;
    struct lvt_native *native = slot->native;
    pthread_mutex_lock(&native->lock);
    bool known = lvt_native_slot_of(event) != NULL;
    bool end = known && finish(slot, verdict, reason, after_ms);
    pthread_mutex_unlock(&native->lock);
    if (!known)
        lvt_native_log(native, NULL, LVT_WARN,
                       "the plugin finished an event that it had finished before", NULL, 0);
    if (end)
        end_run(slot);
    return LEVERET_PENDING;
}

static struct lvt_native_call *take_asked(struct lvt_native *native) {
    struct lvt_native_call *call = native->asked;
    if (!call)
        return NULL;
    native->asked = call->next;
    if (!native->asked)
        native->asked_last = NULL;
    return call;
}

void lvt_native_deliver(struct lvt_letter *letter) {
    struct lvt_native *native = LVT_CONTAINER_OF(letter, struct lvt_native, letter);
    for (;;) {
        pthread_mutex_lock(&native->lock);
        struct lvt_native_slot *slot = native->finished;
        struct lvt_native_call *call = NULL;
        if (slot)
            native->finished = slot->next;
        else
            call = take_asked(native);
        pthread_mutex_unlock(&native->lock);
        if (slot)
            end_run(slot);
        else if (call)
            lvt_native_call_perform(call);
        else
            return;
    }
}

/* ---- its beginning ---- */

/* The event waits, at no cost of an attempt: it is not its fault. */
static void refuse(struct lvt_native *native, struct lvt_run *run, const char *reason) {
    const struct lvt_verdict verdict = {.kind = LVT_VERDICT_OUTAGE, .reason = lvt_bytes_of(reason)};
    const struct lvt_field field = LVT_STRING("reason", reason);
    if (!native->refusing)
        lvt_native_log(native, NULL, LVT_WARN, "the plugin cannot take more events; they wait",
                       &field, 1);
    native->refusing = true;
    lvt_run_finish(run, &verdict);
}

/* With the lock held. A text when the event cannot be handled now. */
static const char *admit(struct lvt_native *native, struct lvt_run *run,
                         struct lvt_native_slot **ret_slot) {
    if (native->over >= LVT_NATIVE_OVER_MAX)
        return "it holds 1000 events that are over, and that it has not finished";
    if (native->blocking && native->attached + native->stuck >= native->threads_max)
        return "all its threads are busy with events that are over";
    struct lvt_native_slot *slot = lvt_native_slot_take(native, run);
    if (!slot)
        return "out of memory";
    if (native->blocking && !lvt_native_pool_add(native, slot)) {
        lvt_native_slot_release(slot);
        return "the system gives it no thread";
    }
    native->attached++;
    run->runtime_data = slot;
    *ret_slot = slot;
    return NULL;
}

void lvt_native_start(void *self, struct lvt_run *run) {
    struct lvt_native *native = self;
    struct lvt_native_slot *slot;
    pthread_mutex_lock(&native->lock);
    native->engine = run->engine;
    if (!native->loop_known)
        native->loop = pthread_self();
    native->loop_known = true;
    const char *reason = admit(native, run, &slot);
    struct leveret_event event = reason ? (struct leveret_event){0} : lvt_native_event_of(slot);
    pthread_mutex_unlock(&native->lock);
    if (reason) {
        refuse(native, run, reason);
        return;
    }
    native->refusing = false;
    if (native->blocking)
        return;
    int32_t verdict = native->plugin->handle(native->self, event);
    if (verdict != LEVERET_PENDING)
        lvt_native_finish(event, verdict, NULL, -1);
}

/* ---- the engine's end of it ---- */

static void remove_finished(struct lvt_native *native, struct lvt_native_slot *slot) {
    struct lvt_native_slot **at = &native->finished;
    while (*at != slot)
        at = &(*at)->next;
    *at = slot->next;
}

void lvt_native_abort(void *self, struct lvt_run *run) {
    struct lvt_native *native = self;
    struct lvt_native_slot *slot = run->runtime_data;
    if (!slot)
        return;
    pthread_mutex_lock(&native->lock);
    struct lvt_native_call *calls = take_calls(slot);
    detach(slot);
    switch (slot->stage) {
    case LVT_SLOT_QUEUED:
        lvt_native_pool_remove(native, slot);
        lvt_native_slot_release(slot);
        break;
    case LVT_SLOT_FINISHED:
        remove_finished(native, slot);
        lvt_native_slot_release(slot);
        break;
    default:
        native->over++;
        if (slot->worker) {
            slot->worker->stuck = true;
            native->stuck++;
        }
        break;
    }
    pthread_mutex_unlock(&native->lock);
    unpost_when_idle(native);
    lvt_native_calls_cancel(calls);
}
