/* What a plugin may ask for. */
#include "engine/effects.h"

#include "runtime/native/native_call.h"
#include "runtime/native/native_header.h"

#define ARGUMENTS_MAX 65535
#define HEADERS_MAX 100

LVT_NATIVE_REFUSAL(bad_count, LEVERET_STATUS_INVALID, "too many arguments, or none");
LVT_NATIVE_REFUSAL(
    bad_request, LEVERET_STATUS_INVALID,
    "the request has no url, more than 100 headers, or a header that would break it");
LVT_NATIVE_REFUSAL(bad_publish, LEVERET_STATUS_INVALID,
                   "an event to publish begins with leveret_publish(), which sets its size, and "
                   "has no more than 100 headers");

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
    lvt_native_call_answered(call);
}

static void reply_answered(void *ctx, enum lvt_answer result, const struct lvt_reply *reply,
                           const char *error) {
    struct lvt_native_call *call = ctx;
    if (result == LVT_ANSWER_OK)
        lvt_native_answer_reply(call, reply);
    else
        lvt_native_answer_error(call, error);
    lvt_native_call_answered(call);
}

static void removed_answered(void *ctx, enum lvt_answer result, int64_t removed,
                             const char *error) {
    struct lvt_native_call *call = ctx;
    call->answer.count = removed;
    if (result != LVT_ANSWER_OK)
        lvt_native_answer_error(call, error);
    lvt_native_call_answered(call);
}

static void response_answered(void *ctx, const struct lvt_http_response *response,
                              const char *error) {
    struct lvt_native_call *call = ctx;
    if (response)
        lvt_native_answer_response(call, response);
    else
        lvt_native_answer_error(call, error);
    lvt_native_call_answered(call);
}

static void published(void *ctx, enum lvt_answer result, struct lvt_bytes id, const char *error) {
    struct lvt_native_call *call = ctx;
    if (result == LVT_ANSWER_OK)
        lvt_native_answer_id(call, id);
    else
        lvt_native_answer_error(call, error);
    lvt_native_call_answered(call);
}

static void slept(void *ctx) {
    lvt_native_call_answered(ctx);
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

static void perform_publish(struct lvt_native_call *call) {
    lvt_effect_publish(call->slot->run, &call->outgoing, published, call);
}

/* ---- as plugins ask ---- */

static struct lvt_bytes bytes_of(struct leveret_text text) {
    return lvt_bytes(text.data, text.len);
}

const struct leveret_answer *lvt_native_query(struct leveret_event event, struct leveret_text sql,
                                              const struct leveret_text *params, size_t param_count,
                                              leveret_answered *done, void *ctx) {
    const struct leveret_answer *refused = lvt_native_call_refuse(event, done);
    if (refused)
        return refused;
    if (param_count > ARGUMENTS_MAX)
        return &bad_count;
    struct lvt_native_call *call = lvt_native_call_new(event, done, ctx, params, param_count);
    if (call) {
        call->perform = perform_query;
        call->text = bytes_of(sql);
    }
    return lvt_native_call_ask(event, call);
}

static const struct leveret_answer *ask_texts(struct leveret_event event,
                                              const struct leveret_text *texts, size_t count,
                                              void (*perform)(struct lvt_native_call *call),
                                              leveret_answered *done, void *ctx) {
    const struct leveret_answer *refused = lvt_native_call_refuse(event, done);
    if (refused)
        return refused;
    if (count == 0 || count > ARGUMENTS_MAX)
        return &bad_count;
    struct lvt_native_call *call = lvt_native_call_new(event, done, ctx, texts, count);
    if (call)
        call->perform = perform;
    return lvt_native_call_ask(event, call);
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
        headers[i].name = bytes_of(pair->name);
        headers[i].value = bytes_of(pair->value);
    }
    call->request = (struct lvt_http_request){
        .method = request->method.len > 0 ? bytes_of(request->method) : LVT_LITERAL("GET"),
        .url = bytes_of(request->url),
        .body = bytes_of(request->body),
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
    const struct leveret_answer *refused = lvt_native_call_refuse(event, done);
    if (refused)
        return refused;
    if (!is_request(request))
        return &bad_request;
    struct lvt_native_call *call = lvt_native_call_new(event, done, ctx, NULL, 0);
    if (call && !copy_request(call, request)) {
        lvt_native_call_free(call);
        call = NULL;
    }
    return lvt_native_call_ask(event, call);
}

const struct leveret_answer *lvt_native_sleep(struct leveret_event event, uint64_t delay_ms,
                                              leveret_answered *done, void *ctx) {
    const struct leveret_answer *refused = lvt_native_call_refuse(event, done);
    if (refused)
        return refused;
    struct lvt_native_call *call = lvt_native_call_new(event, done, ctx, NULL, 0);
    if (call) {
        call->perform = perform_sleep;
        call->delay_ms = delay_ms;
    }
    return lvt_native_call_ask(event, call);
}

static bool copy_publish(struct lvt_native_call *call, const struct leveret_publish *publish) {
    struct lvt_header *headers =
        lvt_arena_alloc(&call->arena, (publish->header_count + 1) * sizeof *headers);
    for (size_t i = 0; headers && i < publish->header_count; i++)
        headers[i] = lvt_native_header_of(&publish->headers[i]);
    call->outgoing = (struct lvt_outgoing){
        .event = bytes_of(publish->event),
        .payload = publish->payload.len > 0 ? bytes_of(publish->payload) : LVT_LITERAL("{}"),
        .id = bytes_of(publish->id),
        .exchange = bytes_of(publish->exchange),
        .queue = bytes_of(publish->queue),
        .delay_ms = publish->delay_ms,
        .ttl_ms = publish->ttl_ms,
        .priority = publish->priority,
        .max_attempts = publish->max_attempts,
        .headers = headers,
        .header_count = publish->header_count,
    };
    call->perform = perform_publish;
    return headers != NULL;
}

const struct leveret_answer *lvt_native_publish(struct leveret_event event,
                                                const struct leveret_publish *publish,
                                                leveret_answered *done, void *ctx) {
    const struct leveret_answer *refused = lvt_native_call_refuse(event, done);
    if (refused)
        return refused;
    if (!publish || publish->size < sizeof *publish ||
        publish->header_count > LVT_OUTGOING_HEADERS_MAX)
        return &bad_publish;
    struct lvt_native_call *call = lvt_native_call_new(event, done, ctx, NULL, 0);
    if (call && !copy_publish(call, publish)) {
        lvt_native_call_free(call);
        call = NULL;
    }
    return lvt_native_call_ask(event, call);
}
