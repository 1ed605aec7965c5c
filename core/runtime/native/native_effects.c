/* What a plugin asks for, in its two forms: with a callback, from the loop's thread; or without,
 * from a thread that waits until the loop has asked, and has the answer. */
#include "engine/effects.h"

#include <stdlib.h>

#include "runtime/native/native_call.h"

#define ARGUMENTS_MAX 65535
#define HEADERS_MAX 100

#define REFUSAL(name, kind, string)                                                                \
    static const struct leveret_answer name = {                                                    \
        .size = sizeof name, .status = (kind), .error = {(string), sizeof(string) - 1}}

REFUSAL(over, LEVERET_STATUS_CANCELLED, "the event is over");
REFUSAL(no_memory, LEVERET_STATUS_ERROR, "out of memory");
REFUSAL(needs_done, LEVERET_STATUS_INVALID, "only a blocking plugin may wait: pass a callback");
REFUSAL(needs_wait, LEVERET_STATUS_INVALID,
        "a blocking plugin waits for its answers: pass no callback");
REFUSAL(wrong_thread, LEVERET_STATUS_INVALID,
        "with a callback, effects are asked for on the lane's thread only: in handle, or in a "
        "callback");
REFUSAL(on_loop_waits, LEVERET_STATUS_INVALID, "the lane's own thread may not wait");
REFUSAL(calling, LEVERET_STATUS_INVALID, "another thread waits for this event's last effect");
REFUSAL(too_many, LEVERET_STATUS_INVALID, "too many effects of this event are under way");
REFUSAL(bad_count, LEVERET_STATUS_INVALID, "too many arguments, or none");
REFUSAL(bad_request, LEVERET_STATUS_INVALID,
        "the request has no url, more than 100 headers, or a header that would break it");

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

static void answered(struct lvt_native_call *call) {
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

static void rows_answered(void *ctx, enum lvt_answer result, const struct lvt_rows *rows,
                          const struct lvt_sql_error *error) {
    struct lvt_native_call *call = ctx;
    char *sqlstate = call->slot->sqlstate;
    sqlstate[0] = '\0';
    if (result == LVT_ANSWER_OK) {
        lvt_native_answer_rows(call, rows);
    } else {
        lvt_native_answer_error(call, error->text);
        memcpy(call->answer.sqlstate, error->sqlstate, sizeof error->sqlstate);
        memcpy(sqlstate, error->sqlstate, sizeof error->sqlstate);
    }
    answered(call);
}

static void reply_answered(void *ctx, enum lvt_answer result, const struct lvt_reply *reply,
                           const char *error) {
    struct lvt_native_call *call = ctx;
    if (result == LVT_ANSWER_OK)
        lvt_native_answer_reply(call, reply);
    else
        lvt_native_answer_error(call, error);
    answered(call);
}

static void removed_answered(void *ctx, enum lvt_answer result, int64_t removed,
                             const char *error) {
    struct lvt_native_call *call = ctx;
    call->answer.count = removed;
    if (result != LVT_ANSWER_OK)
        lvt_native_answer_error(call, error);
    answered(call);
}

static void response_answered(void *ctx, const struct lvt_http_response *response,
                              const char *error) {
    struct lvt_native_call *call = ctx;
    if (response)
        lvt_native_answer_response(call, response);
    else
        lvt_native_answer_error(call, error);
    answered(call);
}

static void slept(void *ctx) {
    answered(ctx);
}

/* ---- asking the engine, on the loop's thread ---- */

static void perform_query(struct lvt_native_call *call) {
    const struct lvt_sql sql = {call->text, call->texts, call->text_count};
    lvt_effect_query(call->slot->run, &sql, rows_answered, call);
}

static void perform_redis(struct lvt_native_call *call) {
    lvt_effect_redis(call->slot->run, call->texts, call->text_count, reply_answered, call);
}

static void perform_invalidate(struct lvt_native_call *call) {
    lvt_effect_invalidate(call->slot->run, call->texts, call->text_count, removed_answered, call);
}

static void perform_http(struct lvt_native_call *call) {
    lvt_effect_http(call->slot->run, &call->request, response_answered, call);
}

static void perform_sleep(struct lvt_native_call *call) {
    lvt_effect_sleep(call->slot->run, call->delay_ms, slept, call);
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

/* NULL: the call is in order. */
static const struct leveret_answer *refuse(struct leveret_event event, leveret_answered *done) {
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

/* The arrays of the arguments are copied; their texts are not: nobody goes on before the engine has
 * taken what it needs of them. NULL when out of memory. */
static struct lvt_native_call *new_call(struct leveret_event event, leveret_answered *done,
                                        void *ctx, const struct leveret_text *texts, size_t count) {
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

static const struct leveret_answer *ask(struct leveret_event event, struct lvt_native_call *call) {
    if (!call)
        return &no_memory;
    if (!call->done)
        return wait_for(event, call);
    lvt_native_call_perform(call);
    return NULL;
}

const struct leveret_answer *lvt_native_query(struct leveret_event event, struct leveret_text sql,
                                              const struct leveret_text *params, size_t param_count,
                                              leveret_answered *done, void *ctx) {
    const struct leveret_answer *refused = refuse(event, done);
    if (refused)
        return refused;
    if (param_count > ARGUMENTS_MAX)
        return &bad_count;
    struct lvt_native_call *call = new_call(event, done, ctx, params, param_count);
    if (call) {
        call->perform = perform_query;
        call->text = lvt_bytes(sql.data, sql.len);
    }
    return ask(event, call);
}

static const struct leveret_answer *ask_texts(struct leveret_event event,
                                              const struct leveret_text *texts, size_t count,
                                              void (*perform)(struct lvt_native_call *call),
                                              leveret_answered *done, void *ctx) {
    const struct leveret_answer *refused = refuse(event, done);
    if (refused)
        return refused;
    if (count == 0 || count > ARGUMENTS_MAX)
        return &bad_count;
    struct lvt_native_call *call = new_call(event, done, ctx, texts, count);
    if (call)
        call->perform = perform;
    return ask(event, call);
}

const struct leveret_answer *lvt_native_redis(struct leveret_event event,
                                              const struct leveret_text *words, size_t word_count,
                                              leveret_answered *done, void *ctx) {
    return ask_texts(event, words, word_count, perform_redis, done, ctx);
}

const struct leveret_answer *lvt_native_invalidate(struct leveret_event event,
                                                   const struct leveret_text *patterns,
                                                   size_t pattern_count, leveret_answered *done,
                                                   void *ctx) {
    return ask_texts(event, patterns, pattern_count, perform_invalidate, done, ctx);
}

/* Bytes that would end a header, or its name. */
static bool holds(struct leveret_text text, const char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (text.len > 0 && memchr(text.data, bytes[i], text.len))
            return true;
    return false;
}

static bool is_request(const struct leveret_http_request *request) {
    if (request->size < sizeof *request || request->url.len == 0 ||
        request->header_count > HEADERS_MAX)
        return false;
    for (size_t i = 0; i < request->header_count; i++)
        if (request->headers[i].name.len == 0 || holds(request->headers[i].name, "\r\n:", 4) ||
            holds(request->headers[i].value, "\r\n", 3))
            return false;
    return true;
}

static bool copy_request(struct lvt_native_call *call, const struct leveret_http_request *request) {
    struct lvt_http_header *headers =
        lvt_arena_alloc(&call->arena, (request->header_count + 1) * sizeof *headers);
    for (size_t i = 0; headers && i < request->header_count; i++) {
        const struct leveret_pair *pair = &request->headers[i];
        headers[i].name = lvt_bytes(pair->name.data, pair->name.len);
        headers[i].value = lvt_bytes(pair->value.data, pair->value.len);
    }
    call->request = (struct lvt_http_request){
        .method = request->method.len > 0 ? lvt_bytes(request->method.data, request->method.len)
                                          : LVT_LITERAL("GET"),
        .url = lvt_bytes(request->url.data, request->url.len),
        .body = lvt_bytes(request->body.data, request->body.len),
        .headers = headers,
        .header_count = request->header_count,
        .timeout_ms = request->timeout_ms,
    };
    call->perform = perform_http;
    return headers != NULL;
}

const struct leveret_answer *lvt_native_http(struct leveret_event event,
                                             const struct leveret_http_request *request,
                                             leveret_answered *done, void *ctx) {
    const struct leveret_answer *refused = refuse(event, done);
    if (refused)
        return refused;
    if (!is_request(request))
        return &bad_request;
    struct lvt_native_call *call = new_call(event, done, ctx, NULL, 0);
    if (call && !copy_request(call, request)) {
        lvt_native_call_free(call);
        call = NULL;
    }
    return ask(event, call);
}

const struct leveret_answer *lvt_native_sleep(struct leveret_event event, uint64_t delay_ms,
                                              leveret_answered *done, void *ctx) {
    const struct leveret_answer *refused = refuse(event, done);
    if (refused)
        return refused;
    struct lvt_native_call *call = new_call(event, done, ctx, NULL, 0);
    if (call) {
        call->perform = perform_sleep;
        call->delay_ms = delay_ms;
    }
    return ask(event, call);
}
