/* What the files of this folder share. */
#ifndef LEVERET_CACHE_PRIVATE_H
#define LEVERET_CACHE_PRIVATE_H

#include <hiredis/async.h>
#include <hiredis/hiredis.h>

#include "cache/cache.h"

/* ---- url.c ---- */

struct lvt_redis_url {
    char *host; /* or NULL: path */
    char port[6];
    char *path;
    char *user, *password; /* NULL: none */
    unsigned database;
};

enum leveret_code lvt_redis_url_parse(const char *text, struct lvt_redis_url *ret_url,
                                      struct leveret_error *err) LVT_MUST_CHECK;
void lvt_redis_url_free(struct lvt_redis_url *url);

/* ---- attach.c ---- */

/* Ties a connection to the loop. gone is called when hiredis ends the connection, for whatever
 * reason, with its error still to be read; closed when the loop has let go of it. False when it
 * cannot be done. */
bool lvt_attach(redisAsyncContext *connection, uv_loop_t *loop,
                void (*gone)(void *ctx, redisAsyncContext *connection), void (*closed)(void *ctx),
                void *ctx) LVT_MUST_CHECK;

/* ---- reply.c ---- */

/* LEVERET_TOO_BIG: nested deeper than we follow. Texts stay hiredis's. */
enum leveret_code lvt_reply_convert(const redisReply *from, struct lvt_arena *arena,
                                    struct lvt_reply *ret_reply) LVT_MUST_CHECK;

/* ---- shared.c ---- */

/* Why a command must not be sent over a connection that all handlers share; NULL when it may. */
const char *lvt_command_refusal(const struct lvt_bytes *argv, size_t argc);

/* ---- cache.c ---- */

struct lvt_call {
    struct lvt_call *prev, *next;
    struct lvt_cache *cache;
    lvt_reply_done *done;
    void *ctx;
    uint64_t tick; /* when it was asked, then when it was sent */
    size_t len;
    /* of a call that was not sent */
    enum lvt_answer answer;
    char error[200];
    char text[]; /* of the command, as it goes over the wire */
};

struct lvt_call_list {
    struct lvt_call *first, *last;
};

enum lvt_cache_state {
    LVT_CACHE_IDLE, /* not started, or closing */
    LVT_CACHE_RESOLVING,
    LVT_CACHE_GREETING, /* connecting, then AUTH, SELECT and PING */
    LVT_CACHE_READY,
    LVT_CACHE_AWAY, /* waiting for the next attempt */
};

#define LVT_CALLS_MAX 10000
#define LVT_CALL_BYTES_MAX (64u << 20)

#define LVT_PASS_BUCKETS 256

struct lvt_cache {
    uv_loop_t *loop;
    const struct lvt_log *log;
    struct lvt_redis_url url;
    char *address;

    enum lvt_cache_state state;
    bool was_ready;  /* has been connected at least once */
    bool known_away; /* an attempt has failed since it was last connected */
    bool refused;
    char reason[300];
    unsigned failures; /* in a row */
    bool resolving;    /* the request is with libuv's threads */
    uv_getaddrinfo_t resolve;
    struct addrinfo *addresses, *next_address;
    redisAsyncContext *connection;
    unsigned greetings; /* of its replies still out */

    uv_timer_t tick_timer; /* runs while calls are out */
    uint64_t tick;
    uv_timer_t wake_timer;     /* the next attempt, or the next PING */
    uv_timer_t answer_timer;   /* answers `unsent` after the call that asked has returned */
    struct lvt_call_list held; /* until the first attempt has ended */
    struct lvt_call_list sent;
    struct lvt_call_list unsent;
    size_t call_count, call_bytes; /* of held and sent */

    struct lvt_pass *passes[LVT_PASS_BUCKETS];
    struct lvt_pass *passes_queued, *passes_queued_last;
    unsigned passes_running;
    size_t waiter_count;

    bool started, closing;
    unsigned handles; /* not closed yet */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* Sends a command, whatever it is, once connected. False when out of memory: then, and only then,
 * no answer comes. */
bool lvt_cache_send(struct lvt_cache *cache, const struct lvt_bytes *argv, size_t argc,
                    lvt_reply_done *done, void *ctx);
/* Sends it at once, even while the connection is still being greeted. */
bool lvt_cache_send_now(struct lvt_cache *cache, const struct lvt_bytes *argv, size_t argc,
                        lvt_reply_done *done, void *ctx);
/* Answers later, without asking Redis. */
bool lvt_cache_refuse(struct lvt_cache *cache, enum lvt_answer answer, const char *error,
                      lvt_reply_done *done, void *ctx);
/* Sends what was held back, or answers it with an outage. */
void lvt_cache_release_held(struct lvt_cache *cache);
void lvt_cache_handle_closed(struct lvt_cache *cache);

/* ---- connect.c ---- */

void lvt_cache_connect(struct lvt_cache *cache);
/* The connection is over, and hiredis knows. */
void lvt_cache_lost(struct lvt_cache *cache, const char *reason);
/* Ends the connection. All calls on it are answered with an outage before this returns or, when
 * called while a reply is handled, right after that. */
void lvt_cache_hang_up(struct lvt_cache *cache, const char *reason);

/* ---- invalidate.c ---- */

void lvt_cache_invalidate(struct lvt_cache *cache, struct lvt_bytes pattern,
                          lvt_invalidate_done *done, void *ctx);

#endif
