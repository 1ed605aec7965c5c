/* A call of a plugin's that asks for an effect, in its two forms: with a callback, from the loop's
 * thread; or without, from a thread that waits until the loop has asked, and has the answer. */
#include "runtime/native/native_call.h"

#include <stdlib.h>

LVT_NATIVE_REFUSAL(over, LEVERET_STATUS_CANCELLED, "the event is over");
LVT_NATIVE_REFUSAL(no_memory, LEVERET_STATUS_ERROR, "out of memory");
LVT_NATIVE_REFUSAL(needs_done, LEVERET_STATUS_INVALID,
                   "only a blocking plugin may wait: pass a callback");
LVT_NATIVE_REFUSAL(needs_wait, LEVERET_STATUS_INVALID,
                   "a blocking plugin waits for its answers: pass no callback");
LVT_NATIVE_REFUSAL(
    wrong_thread, LEVERET_STATUS_INVALID,
    "with a callback, effects are asked for on the lane's thread only: in handle, or in a "
    "callback");
LVT_NATIVE_REFUSAL(on_loop_waits, LEVERET_STATUS_INVALID, "the lane's own thread may not wait");
LVT_NATIVE_REFUSAL(calling, LEVERET_STATUS_INVALID,
                   "another thread waits for this event's last effect");
LVT_NATIVE_REFUSAL(too_many, LEVERET_STATUS_INVALID,
                   "too many effects of this event are under way");

void lvt_native_call_free(struct lvt_native_call *call) {
    if (!call)
        return;
    lvt_arena_free(&call->arena);
    free(call);
}

/* ---- answers, on the loop's thread ---- */

static void unlink_call(struct lvt_native_call *call) {
    if (call->prev)
        call->prev->next = call->next;
    else
        call->slot->calls = call->next;
    if (call->next)
        call->next->prev = call->prev;
    call->slot->call_count--;
}

/* The call is on no list any more. */
static void complete(struct lvt_native_call *call) {
    struct lvt_native *native = call->slot->native;
    if (call->done) {
        call->done(call->ctx, &call->answer);
        lvt_native_call_free(call);
        return;
    }
    pthread_mutex_lock(&native->lock);
    call->answered = true; /* from here on it is the thread's */
    pthread_cond_signal(&call->ready);
    pthread_mutex_unlock(&native->lock);
}

void lvt_native_call_answered(struct lvt_native_call *call) {
    unlink_call(call);
    complete(call);
}

void lvt_native_calls_cancel(struct lvt_native_call *list) {
    while (list) {
        struct lvt_native_call *call = list;
        list = call->next;
        call->answer.status = over.status;
        call->answer.error = over.error;
        complete(call);
    }
}

void lvt_native_call_perform(struct lvt_native_call *call) {
    struct lvt_native_slot *slot = call->slot;
    call->prev = NULL;
    call->next = slot->calls;
    if (slot->calls)
        slot->calls->prev = call;
    slot->calls = call;
    slot->call_count++;
    call->perform(call);
}

/* ---- asking us ---- */

static bool on_loop(const struct lvt_native *native) {
    return pthread_equal(pthread_self(), native->loop);
}

const struct leveret_answer *lvt_native_call_refuse(struct leveret_event event,
                                                    leveret_answered *done) {
    const struct lvt_native_slot *slot = lvt_native_slot_of(event);
    if (!slot)
        return &over;
    const struct lvt_native *native = slot->native;
    if (native->blocking)
        return done ? &needs_wait : on_loop(native) ? &on_loop_waits : NULL;
    if (!done)
        return &needs_done;
    if (!on_loop(native))
        return &wrong_thread;
    if (!slot->run)
        return &over;
    return slot->call_count < LVT_NATIVE_CALLS_MAX ? NULL : &too_many;
}

struct lvt_native_call *lvt_native_call_new(struct leveret_event event, leveret_answered *done,
                                            void *ctx, const struct leveret_text *texts,
                                            size_t count) {
    struct lvt_native_call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    lvt_arena_init(&call->arena, 512);
    call->slot = event.slot;
    call->done = done;
    call->ctx = ctx;
    call->answer.size = sizeof call->answer;
    call->texts = lvt_arena_alloc(&call->arena, (count + 1) * sizeof *call->texts);
    if (!call->texts) {
        lvt_native_call_free(call);
        return NULL;
    }
    for (; call->text_count < count; call->text_count++)
        call->texts[call->text_count] =
            lvt_bytes(texts[call->text_count].data, texts[call->text_count].len);
    return call;
}

static void append_asked(struct lvt_native *native, struct lvt_native_call *call) {
    call->prev = call->next = NULL;
    if (native->asked_last)
        native->asked_last->next = call;
    else
        native->asked = call;
    native->asked_last = call;
    lvt_engine_post(native->engine, &native->letter);
}

/* Hands the call to the loop, and waits. */
static const struct leveret_answer *wait_for(struct leveret_event event,
                                             struct lvt_native_call *call) {
    struct lvt_native_slot *slot = call->slot;
    struct lvt_native *native = slot->native;
    const struct leveret_answer *answer = &over;
    pthread_mutex_lock(&native->lock);
    if (!lvt_native_slot_of(event) || !slot->run) {
        lvt_native_call_free(call);
    } else if (slot->calling) {
        lvt_native_call_free(call);
        answer = &calling;
    } else {
        slot->calling = true;
        lvt_native_call_free(slot->kept);
        slot->kept = NULL;
        append_asked(native, call);
        pthread_cond_init(&call->ready, NULL);
        while (!call->answered)
            pthread_cond_wait(&call->ready, &native->lock);
        pthread_cond_destroy(&call->ready);
        if (lvt_native_slot_of(event)) {
            slot->calling = false;
            slot->kept = call;
            answer = &call->answer;
        } else {
            lvt_native_call_free(call); /* finished meanwhile, by another thread */
        }
    }
    pthread_mutex_unlock(&native->lock);
    return answer;
}

const struct leveret_answer *lvt_native_call_ask(struct leveret_event event,
                                                 struct lvt_native_call *call) {
    if (!call)
        return &no_memory;
    if (!call->done)
        return wait_for(event, call);
    lvt_native_call_perform(call);
    return NULL;
}
