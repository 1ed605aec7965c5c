#include "exec/standin.h"

#include <stdlib.h>
#include <strings.h>

enum ask_kind { ASK_TX, ASK_ROWS, ASK_REPLY, ASK_INVALIDATE, ASK_HTTP };

/* To be answered with the next poll. */
struct ask {
    struct ask *next;
    enum ask_kind kind;
    struct lvt_tx *tx; /* TX and ROWS */
    union {
        lvt_tx_done *tx;
        lvt_rows_done *rows;
        lvt_reply_done *reply;
        lvt_invalidate_done *invalidate;
        lvt_http_done *http;
    } done;
    void *ctx;
    struct lvt_reply reply;
};

/* There is nothing to it: it is only told from others by its address. */
struct lvt_tx {
    bool ending;
};

struct lvt_standin {
    struct ask *asks, **last;
    struct lvt_tx *tx; /* one run has one at most */
};

enum leveret_code lvt_standin_new(struct lvt_standin **ret_standin, struct leveret_error *err) {
    struct lvt_standin *standin = calloc(1, sizeof *standin);
    if (!standin)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    standin->last = &standin->asks;
    *ret_standin = standin;
    return LEVERET_OK;
}

void lvt_standin_free(struct lvt_standin *standin) {
    if (!standin)
        return;
    while (standin->asks) {
        struct ask *next = standin->asks->next;
        free(standin->asks);
        standin->asks = next;
    }
    free(standin->tx);
    free(standin);
}

/* NULL when out of memory: then the answer never comes. */
static struct ask *put(struct lvt_standin *standin, enum ask_kind kind, void *ctx) {
    struct ask *ask = calloc(1, sizeof *ask);
    if (!ask)
        return NULL;
    ask->kind = kind;
    ask->ctx = ctx;
    *standin->last = ask;
    standin->last = &ask->next;
    return ask;
}

/* ---- ledger ---- */

static struct lvt_tx *tx_begin(void *self, struct lvt_claim *claim, lvt_tx_done *done, void *ctx) {
    struct lvt_standin *standin = self;
    (void)claim;
    standin->tx = calloc(1, sizeof *standin->tx);
    struct ask *ask = standin->tx ? put(standin, ASK_TX, ctx) : NULL;
    if (!ask) {
        free(standin->tx);
        standin->tx = NULL;
        return NULL;
    }
    ask->done.tx = done;
    ask->tx = standin->tx;
    return standin->tx;
}

static void tx_query(void *self, struct lvt_tx *tx, const struct lvt_sql *sql, lvt_rows_done *done,
                     void *ctx) {
    struct ask *ask = put(self, ASK_ROWS, ctx);
    (void)sql;
    if (!ask)
        return;
    ask->done.rows = done;
    ask->tx = tx;
}

static void tx_commit(void *self, struct lvt_tx *tx, lvt_tx_done *done, void *ctx) {
    struct ask *ask = put(self, ASK_TX, ctx);
    if (!ask)
        return;
    ask->done.tx = done;
    ask->tx = tx;
    tx->ending = true;
}

static void tx_rollback(void *self, struct lvt_tx *tx) {
    struct lvt_standin *standin = self;
    struct ask **at = &standin->asks;
    while (*at) {
        struct ask *ask = *at;
        if (ask->tx == tx) {
            *at = ask->next;
            free(ask);
        } else {
            at = &ask->next;
        }
    }
    standin->last = at;
    free(tx);
    standin->tx = NULL;
}

struct lvt_ledger_port lvt_standin_ledger(struct lvt_standin *standin) {
    return (struct lvt_ledger_port){.self = standin,
                                    .tx_begin = tx_begin,
                                    .tx_query = tx_query,
                                    .tx_commit = tx_commit,
                                    .tx_rollback = tx_rollback};
}

/* ---- cache ---- */

/* Of a command that is not named here the answer is OK: it most likely writes. */
static struct lvt_reply reply_to(struct lvt_bytes command) {
    static const struct {
        const char *name;
        enum lvt_reply_kind kind;
        int64_t integer;
    } known[] = {
        {"get", LVT_REPLY_NIL, 0},           {"hget", LVT_REPLY_NIL, 0},
        {"getdel", LVT_REPLY_NIL, 0},        {"getset", LVT_REPLY_NIL, 0},
        {"getex", LVT_REPLY_NIL, 0},         {"lpop", LVT_REPLY_NIL, 0},
        {"rpop", LVT_REPLY_NIL, 0},          {"spop", LVT_REPLY_NIL, 0},
        {"lindex", LVT_REPLY_NIL, 0},        {"zscore", LVT_REPLY_NIL, 0},
        {"exists", LVT_REPLY_INTEGER, 0},    {"hexists", LVT_REPLY_INTEGER, 0},
        {"llen", LVT_REPLY_INTEGER, 0},      {"scard", LVT_REPLY_INTEGER, 0},
        {"zcard", LVT_REPLY_INTEGER, 0},     {"hlen", LVT_REPLY_INTEGER, 0},
        {"sismember", LVT_REPLY_INTEGER, 0}, {"ttl", LVT_REPLY_INTEGER, -2},
        {"pttl", LVT_REPLY_INTEGER, -2},     {"incr", LVT_REPLY_INTEGER, 1},
        {"incrby", LVT_REPLY_INTEGER, 1},    {"decr", LVT_REPLY_INTEGER, -1},
        {"decrby", LVT_REPLY_INTEGER, -1},   {"hincrby", LVT_REPLY_INTEGER, 1},
        {"setnx", LVT_REPLY_INTEGER, 1},     {"hset", LVT_REPLY_INTEGER, 1},
        {"hsetnx", LVT_REPLY_INTEGER, 1},    {"sadd", LVT_REPLY_INTEGER, 1},
        {"zadd", LVT_REPLY_INTEGER, 1},      {"lpush", LVT_REPLY_INTEGER, 1},
        {"rpush", LVT_REPLY_INTEGER, 1},     {"expire", LVT_REPLY_INTEGER, 1},
        {"pexpire", LVT_REPLY_INTEGER, 1},   {"publish", LVT_REPLY_INTEGER, 0},
        {"del", LVT_REPLY_INTEGER, 0},       {"unlink", LVT_REPLY_INTEGER, 0},
        {"hdel", LVT_REPLY_INTEGER, 0},      {"srem", LVT_REPLY_INTEGER, 0},
        {"zrem", LVT_REPLY_INTEGER, 0},      {"lrem", LVT_REPLY_INTEGER, 0},
        {"keys", LVT_REPLY_ARRAY, 0},        {"mget", LVT_REPLY_ARRAY, 0},
        {"hmget", LVT_REPLY_ARRAY, 0},       {"hgetall", LVT_REPLY_ARRAY, 0},
        {"lrange", LVT_REPLY_ARRAY, 0},      {"smembers", LVT_REPLY_ARRAY, 0},
        {"zrange", LVT_REPLY_ARRAY, 0},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strlen(known[i].name) == command.len &&
            strncasecmp(known[i].name, command.data, command.len) == 0)
            return (struct lvt_reply){.kind = known[i].kind, .integer = known[i].integer};
    return (struct lvt_reply){.kind = LVT_REPLY_STATUS, .text = LVT_LITERAL("OK")};
}

static void command(void *self, const struct lvt_bytes *argv, size_t argc, lvt_reply_done *done,
                    void *ctx) {
    struct ask *ask = put(self, ASK_REPLY, ctx);
    if (!ask)
        return;
    ask->done.reply = done;
    ask->reply = reply_to(argc > 0 ? argv[0] : lvt_bytes("", 0));
}

static void invalidate(void *self, struct lvt_bytes pattern, lvt_invalidate_done *done, void *ctx) {
    struct ask *ask = put(self, ASK_INVALIDATE, ctx);
    (void)pattern;
    if (ask)
        ask->done.invalidate = done;
}

struct lvt_cache_port lvt_standin_cache(struct lvt_standin *standin) {
    return (struct lvt_cache_port){standin, command, invalidate};
}

/* ---- http ---- */

static void request(void *self, const struct lvt_http_request *asked, lvt_http_done *done,
                    void *ctx) {
    struct ask *ask = put(self, ASK_HTTP, ctx);
    (void)asked;
    if (ask)
        ask->done.http = done;
}

struct lvt_http_port lvt_standin_http(struct lvt_standin *standin) {
    return (struct lvt_http_port){standin, request};
}

/* ---- answers ---- */

static void end_tx(struct lvt_standin *standin) {
    if (!standin->tx || !standin->tx->ending)
        return;
    free(standin->tx);
    standin->tx = NULL;
}

static void answer(struct lvt_standin *standin, const struct ask *ask) {
    static const struct lvt_rows no_rows = {.affected = 1};
    static const struct lvt_http_response ok = {.status = 200};
    switch (ask->kind) {
    case ASK_TX:
        end_tx(standin);
        ask->done.tx(ask->ctx, LVT_TX_OK, NULL);
        break;
    case ASK_ROWS:
        ask->done.rows(ask->ctx, LVT_ANSWER_OK, &no_rows, NULL);
        break;
    case ASK_REPLY:
        ask->done.reply(ask->ctx, LVT_ANSWER_OK, &ask->reply, NULL);
        break;
    case ASK_INVALIDATE:
        ask->done.invalidate(ask->ctx, LVT_ANSWER_OK, 0, NULL);
        break;
    case ASK_HTTP:
        ask->done.http(ask->ctx, &ok, NULL);
        break;
    }
}

/* One at a time, because an answer may take back others, and none of those that answers bring: a
 * handler that goes on asking must not keep the clock from running. */
void lvt_standin_poll(struct lvt_standin *standin) {
    size_t count = 0;
    for (const struct ask *ask = standin->asks; ask; ask = ask->next)
        count++;
    for (; count > 0 && standin->asks; count--) {
        struct ask *ask = standin->asks;
        standin->asks = ask->next;
        if (!standin->asks)
            standin->last = &standin->asks;
        answer(standin, ask);
        free(ask);
    }
}

bool lvt_standin_pending(const struct lvt_standin *standin) {
    return standin->asks != NULL;
}
