#include "cache/cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/private.h"

/* Age is counted in ticks that the loop has lived through: a loop that a handler held up for a
 * while must not take its own delay for Redis's. */
#define TICK_MS 200
#define DEADLINE_TICKS 10

/* ---- calls ---- */

static void push(struct lvt_call_list *list, struct lvt_call *call) {
    call->prev = list->last;
    call->next = NULL;
    if (list->last)
        list->last->next = call;
    else
        list->first = call;
    list->last = call;
}

static void take(struct lvt_call_list *list, struct lvt_call *call) {
    if (call->prev)
        call->prev->next = call->next;
    else
        list->first = call->next;
    if (call->next)
        call->next->prev = call->prev;
    else
        list->last = call->prev;
}

static void answer_unsent(struct lvt_cache *cache) {
    struct lvt_call *call = cache->unsent.first;
    cache->unsent = (struct lvt_call_list){0}; /* what these answers ask for waits for the next */
    while (call) {
        struct lvt_call *next = call->next;
        call->done(call->ctx, call->answer, NULL, call->error);
        free(call);
        call = next;
    }
}

static void answer_due(uv_timer_t *timer) {
    answer_unsent(timer->data);
}

static void set_unsent(struct lvt_cache *cache, struct lvt_call *call, enum lvt_answer answer,
                       const char *error) {
    call->answer = answer;
    snprintf(call->error, sizeof call->error, "%.*s", (int)sizeof call->error - 1, error);
    push(&cache->unsent, call);
    /* 1 ms: a timer of 0 started by its own callback would keep the loop from its other work. */
    if (!cache->closing && !uv_is_active((uv_handle_t *)&cache->answer_timer))
        uv_timer_start(&cache->answer_timer, answer_due, 1, 0);
}

bool lvt_cache_refuse(struct lvt_cache *cache, enum lvt_answer answer, const char *error,
                      lvt_reply_done *done, void *ctx) {
    struct lvt_call *call = calloc(1, sizeof *call);
    if (!call)
        return false;
    call->cache = cache;
    call->done = done;
    call->ctx = ctx;
    set_unsent(cache, call, answer, error);
    return true;
}

/* An upper bound; more than the maximum when it does not fit into that. */
static size_t encoded_size(const struct lvt_bytes *argv, size_t argc) {
    size_t size = 32;
    for (size_t i = 0; i < argc && size <= LVT_CALL_BYTES_MAX; i++)
        size += argv[i].len < LVT_CALL_BYTES_MAX ? argv[i].len + 32 : LVT_CALL_BYTES_MAX;
    return size;
}

static struct lvt_call *encode(struct lvt_cache *cache, const struct lvt_bytes *argv, size_t argc,
                               size_t size, lvt_reply_done *done, void *ctx) {
    struct lvt_call *call = malloc(sizeof *call + size);
    if (!call)
        return NULL;
    *call = (struct lvt_call){.cache = cache, .done = done, .ctx = ctx};
    char *at = call->text;
    at += sprintf(at, "*%zu\r\n", argc);
    for (size_t i = 0; i < argc; i++) {
        at += sprintf(at, "$%zu\r\n", argv[i].len);
        if (argv[i].len > 0)
            memcpy(at, argv[i].data, argv[i].len);
        at += argv[i].len;
        *at++ = '\r';
        *at++ = '\n';
    }
    call->len = (size_t)(at - call->text);
    return call;
}

/* ---- time ---- */

static void tick(uv_timer_t *timer) {
    struct lvt_cache *cache = timer->data;
    cache->tick++;
    struct lvt_call *call;
    while ((call = cache->held.first) && cache->tick - call->tick >= DEADLINE_TICKS) {
        take(&cache->held, call);
        cache->call_count--;
        cache->call_bytes -= call->len;
        set_unsent(cache, call, LVT_ANSWER_OUTAGE, "Redis could not be reached within 2 s");
    }
    call = cache->sent.first;
    if (call && cache->tick - call->tick >= DEADLINE_TICKS)
        lvt_cache_hang_up(cache, "no answer for 2 s");
    if (!cache->held.first && !cache->sent.first)
        uv_timer_stop(timer);
}

static void count(struct lvt_cache *cache, struct lvt_call_list *list, struct lvt_call *call) {
    call->tick = cache->tick;
    push(list, call);
    cache->call_count++;
    cache->call_bytes += call->len;
    if (!uv_is_active((uv_handle_t *)&cache->tick_timer))
        uv_timer_start(&cache->tick_timer, tick, TICK_MS, TICK_MS);
}

/* ---- replies ---- */

/* Errors that are the server's state, not the command's fault. */
static bool is_outage(const char *error) {
    static const char *const prefixes[] = {"LOADING ", "MASTERDOWN ", "CLUSTERDOWN ", "READONLY "};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (strncmp(error, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

static void answer(struct lvt_cache *cache, struct lvt_call *call, const redisReply *from) {
    if (from->type == REDIS_REPLY_ERROR) {
        enum lvt_answer kind = is_outage(from->str) ? LVT_ANSWER_OUTAGE : LVT_ANSWER_ERROR;
        /* After a failover the name leads to another server, the connection does not. */
        if (strncmp(from->str, "READONLY ", 9) == 0)
            lvt_cache_hang_up(cache, "it is a read-only replica; redis.url must name the primary");
        call->done(call->ctx, kind, NULL, from->str);
        return;
    }
    if (cache->state == LVT_CACHE_READY)
        cache->failures = 0;
    struct lvt_arena arena;
    struct lvt_reply reply;
    lvt_arena_init(&arena, 1024);
    enum leveret_code code = lvt_reply_convert(from, &arena, &reply);
    if (code == LEVERET_TOO_BIG)
        call->done(call->ctx, LVT_ANSWER_ERROR, NULL, "Redis's reply is nested too deeply");
    else if (code)
        call->done(call->ctx, LVT_ANSWER_OUTAGE, NULL, "out of memory for Redis's reply");
    else
        call->done(call->ctx, LVT_ANSWER_OK, &reply, NULL);
    lvt_arena_free(&arena);
}

static void replied(redisAsyncContext *connection, void *reply, void *data) {
    struct lvt_call *call = data;
    struct lvt_cache *cache = call->cache;
    take(&cache->sent, call);
    cache->call_count--;
    cache->call_bytes -= call->len;
    if (reply) {
        answer(cache, call, reply);
    } else if (cache->connection == connection && connection->err == REDIS_ERR_PROTOCOL) {
        /* hiredis 0.14 cannot read a reply of more than seven levels. The first call that it gives
         * up is the one to blame: as an outage it would be tried again for ever. */
        lvt_cache_lost(cache, connection->errstr);
        call->done(call->ctx, LVT_ANSWER_ERROR, NULL, "hiredis cannot read Redis's reply");
    } else {
        if (cache->connection == connection)
            lvt_cache_lost(cache, connection->errstr);
        call->done(call->ctx, LVT_ANSWER_OUTAGE, NULL, cache->reason);
    }
    free(call);
}

/* ---- sending ---- */

static void send_call(struct lvt_cache *cache, struct lvt_call *call) {
    if (redisAsyncFormattedCommand(cache->connection, replied, call, call->text, call->len) ==
        REDIS_OK)
        count(cache, &cache->sent, call);
    else
        set_unsent(cache, call, LVT_ANSWER_OUTAGE, "the connection to Redis is closing");
}

static bool ask(struct lvt_cache *cache, const struct lvt_bytes *argv, size_t argc, bool hold,
                lvt_reply_done *done, void *ctx) {
    size_t size = encoded_size(argv, argc);
    if (size > LVT_CALL_BYTES_MAX)
        return lvt_cache_refuse(cache, LVT_ANSWER_ERROR, "a Redis command of more than 64 MiB",
                                done, ctx);
    if (cache->call_count >= LVT_CALLS_MAX || cache->call_bytes + size > LVT_CALL_BYTES_MAX)
        return lvt_cache_refuse(cache, LVT_ANSWER_OUTAGE, "too many commands wait for Redis", done,
                                ctx);
    struct lvt_call *call = encode(cache, argv, argc, size, done, ctx);
    if (!call)
        return false;
    if (hold)
        count(cache, &cache->held, call);
    else
        send_call(cache, call);
    return true;
}

bool lvt_cache_send_now(struct lvt_cache *cache, const struct lvt_bytes *argv, size_t argc,
                        lvt_reply_done *done, void *ctx) {
    return ask(cache, argv, argc, false, done, ctx);
}

bool lvt_cache_send(struct lvt_cache *cache, const struct lvt_bytes *argv, size_t argc,
                    lvt_reply_done *done, void *ctx) {
    if (cache->state == LVT_CACHE_READY)
        return ask(cache, argv, argc, false, done, ctx);
    if (cache->known_away || cache->state == LVT_CACHE_IDLE)
        return lvt_cache_refuse(cache, LVT_ANSWER_OUTAGE, cache->reason, done, ctx);
    return ask(cache, argv, argc, true, done, ctx);
}

void lvt_cache_release_held(struct lvt_cache *cache) {
    struct lvt_call *call = cache->held.first;
    cache->held = (struct lvt_call_list){0};
    while (call) {
        struct lvt_call *next = call->next;
        cache->call_count--;
        cache->call_bytes -= call->len;
        if (cache->state == LVT_CACHE_READY)
            send_call(cache, call);
        else
            set_unsent(cache, call, LVT_ANSWER_OUTAGE, cache->reason);
        call = next;
    }
}

/* ---- port ---- */

static void port_command(void *self, const struct lvt_bytes *argv, size_t argc,
                         lvt_reply_done *done, void *ctx) {
    struct lvt_cache *cache = self;
    const char *refusal = lvt_command_refusal(argv, argc);
    if (refusal)
        lvt_cache_refuse(cache, LVT_ANSWER_ERROR, refusal, done, ctx);
    else
        lvt_cache_send(cache, argv, argc, done, ctx);
}

static void port_invalidate(void *self, struct lvt_bytes pattern, lvt_invalidate_done *done,
                            void *ctx) {
    lvt_cache_invalidate(self, pattern, done, ctx);
}

struct lvt_cache_port lvt_cache_port(struct lvt_cache *cache) {
    return (struct lvt_cache_port){
        .self = cache, .command = port_command, .invalidate = port_invalidate};
}

/* ---- life ---- */

static char *address_of(const struct lvt_redis_url *url) {
    char *address = NULL;
    bool bare = url->host && strchr(url->host, ':');
    int len = url->path ? asprintf(&address, "%s", url->path)
                        : asprintf(&address, bare ? "[%s]:%s" : "%s:%s", url->host, url->port);
    return len < 0 ? NULL : address;
}

enum leveret_code lvt_cache_new(const struct lvt_cache_options *options,
                                struct lvt_cache **ret_cache, struct leveret_error *err) {
    struct lvt_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    cache->loop = options->loop;
    cache->log = options->log;
    snprintf(cache->reason, sizeof cache->reason, "not connected yet");
    enum leveret_code code = lvt_redis_url_parse(options->url, &cache->url, err);
    if (!code) {
        cache->address = address_of(&cache->url);
        if (!cache->address)
            code = leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    }
    if (code)
        lvt_cache_free(cache);
    else
        *ret_cache = cache;
    return code;
}

enum leveret_code lvt_cache_start(struct lvt_cache *cache, struct leveret_error *err) {
    if (cache->started)
        return leveret_fail(err, LEVERET_STATE, "the connection to Redis was started before");
    uv_timer_t *const timers[] = {&cache->tick_timer, &cache->wake_timer, &cache->answer_timer};
    for (size_t i = 0; i < 3; i++) {
        uv_timer_init(cache->loop, timers[i]); /* cannot fail */
        timers[i]->data = cache;
    }
    cache->handles = 3;
    cache->started = true;
    lvt_cache_connect(cache);
    return LEVERET_OK;
}

void lvt_cache_status(const struct lvt_cache *cache, struct lvt_cache_status *ret_status) {
    bool connected = cache->state == LVT_CACHE_READY;
    *ret_status = (struct lvt_cache_status){
        .connected = connected,
        .refused = cache->refused,
        .failed = cache->refused && !cache->was_ready,
        .address = cache->address,
        .reason = connected ? "" : cache->reason,
    };
}

void lvt_cache_handle_closed(struct lvt_cache *cache) {
    if (--cache->handles > 0 || !cache->closing)
        return;
    while (cache->unsent.first)
        answer_unsent(cache);
    cache->closed(cache->closed_ctx);
}

static void timer_closed(uv_handle_t *handle) {
    lvt_cache_handle_closed(handle->data);
}

void lvt_cache_close(struct lvt_cache *cache, void (*closed)(void *ctx), void *ctx) {
    if (!cache || !cache->started) {
        closed(ctx);
        return;
    }
    cache->closing = true;
    cache->closed = closed;
    cache->closed_ctx = ctx;
    uv_close((uv_handle_t *)&cache->tick_timer, timer_closed);
    uv_close((uv_handle_t *)&cache->wake_timer, timer_closed);
    uv_close((uv_handle_t *)&cache->answer_timer, timer_closed);
    if (cache->resolving)
        uv_cancel((uv_req_t *)&cache->resolve);
    lvt_cache_hang_up(cache, "the connection to Redis is closing");
}

void lvt_cache_free(struct lvt_cache *cache) {
    if (!cache)
        return;
    struct lvt_call *call;
    while ((call = cache->unsent.first)) { /* asked for after the close */
        take(&cache->unsent, call);
        free(call);
    }
    lvt_redis_url_free(&cache->url);
    free(cache->address);
    free(cache);
}

const char *lvt_cache_library(void) {
    static char text[64];
    snprintf(text, sizeof text, "hiredis %d.%d.%d", HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH);
    return text;
}
