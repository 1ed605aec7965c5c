/* What the engine needs of the world, as small structs of functions. Each has an implementation
 * over a client library and one in memory (core/memory).
 *
 * Everything here is called on the lane's loop thread, and answers come on it too. No port answers
 * before the call that asks has returned. */
#ifndef LEVERET_ENGINE_PORTS_H
#define LEVERET_ENGINE_PORTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/timers.h"
#include "engine/outgoing.h"
#include "event/delivery.h"

/* How a service answered. */
enum lvt_answer {
    LVT_ANSWER_OK,
    LVT_ANSWER_ERROR,  /* the service said no, and why */
    LVT_ANSWER_OUTAGE, /* it could not be asked, or its answer was lost */
};

/* ---- clock ---- */

struct lvt_clock {
    void *self;
    uint64_t (*now_ms)(void *self); /* never goes back */
    int64_t (*wall_ms)(void *self); /* since 1970, UTC */
    uint32_t (*random)(void *self);
    struct lvt_timers *timers; /* run by the clock's owner, by now_ms */
};

/* ---- broker ---- */

enum lvt_destination_kind {
    LVT_TO_QUEUE,    /* straight to the queue `name` */
    LVT_TO_DELAY,    /* to the queue `name`, after delay_ms */
    LVT_TO_EXCHANGE, /* to the exchange `name` with routing_key */
};

struct lvt_destination {
    enum lvt_destination_kind kind;
    struct lvt_bytes name;
    struct lvt_bytes routing_key;
    uint64_t delay_ms;
};

enum lvt_publish_result {
    LVT_PUBLISH_CONFIRMED,
    LVT_PUBLISH_RETURNED, /* no queue took it */
    LVT_PUBLISH_REFUSED,  /* the broker answered no (a full queue), or closed the channel over it */
    LVT_PUBLISH_DROPPED,  /* the port is closing; whether it arrived is not known */
};

struct lvt_engine;

/* A message on its way out: persistent, mandatory, confirmed. It and all that it points to belong
 * to the one who published it, and stay as they are until the answer. */
struct lvt_publish {
    struct lvt_publish *next;
    struct lvt_destination destination;
    struct lvt_properties properties;
    struct lvt_bytes body;
    enum lvt_publish_result result;
    char reason[200];      /* of a result that is not CONFIRMED */
    atomic_bool withdrawn; /* set by its owner, from any thread: it need not be sent any more */
    /* the engine's: who takes the answer */
    void (*answered)(struct lvt_engine *engine, struct lvt_publish *publish);
};

struct lvt_broker_port {
    void *self;
    /* Settles a delivery. Forgotten when its epoch is over. Batched until flush. */
    void (*ack)(void *self, const struct lvt_delivery *delivery);
    /* Gives a delivery back to its queue, as if it had never been delivered. Like ack otherwise. */
    void (*requeue)(void *self, const struct lvt_delivery *delivery);
    /* Through a broken connection it waits, and is sent again: it may arrive twice. */
    void (*publish)(void *self, struct lvt_publish *publish);
    void (*flush)(void *self);
    /* Whether this delivery can still be settled. */
    bool (*live)(void *self, const struct lvt_delivery *delivery);
};

/* What a broker port tells the engine. */
struct lvt_broker_sink {
    void *ctx;
    void (*delivered)(void *ctx,
                      struct lvt_delivery *list);           /* a list that the receiver then owns */
    void (*published)(void *ctx, struct lvt_publish *list); /* answers, `result` filled in */
};

/* ---- ledger ---- */

enum lvt_claim_result {
    LVT_CLAIM_GOT,
    LVT_CLAIM_DUPLICATE, /* recorded before */
    LVT_CLAIM_BUSY,      /* another worker has it in hand */
};

#define LVT_KEY_BYTES 16

/* The right to run one event. Embedded in the event, which outlives it. */
struct lvt_claim {
    struct lvt_claim *next;                  /* of a request's or an answer's list */
    struct lvt_claim *held_prev, *held_next; /* the ledger's list of claims in hand */
    unsigned char key[LVT_KEY_BYTES];        /* of (name, queue, type, id) */
    struct lvt_bytes queue, type, id;
    enum lvt_claim_result result;
    bool held;
    unsigned char phase; /* the ledger's own, as is slot; 0 while the ledger does not know it */
    uint32_t slot;
};

struct lvt_tx;

/* A statement, with parameters as text; data NULL is SQL's NULL. Copied before the call returns. */
struct lvt_sql {
    struct lvt_bytes text;
    const struct lvt_bytes *params;
    size_t param_count;
};

enum lvt_column_kind {
    LVT_COLUMN_TEXT,
    LVT_COLUMN_INTEGER,
    LVT_COLUMN_NUMBER,
    LVT_COLUMN_BOOLEAN,
    LVT_COLUMN_JSON,
};

/* An answer's rows. Valid until the callback that gets them returns. */
struct lvt_rows {
    void *self;
    size_t row_count, column_count;
    int64_t affected;
    const char *(*name)(void *self, size_t column);
    enum lvt_column_kind (*kind)(void *self, size_t column);
    bool (*cell)(void *self, size_t row, size_t column,
                 struct lvt_bytes *ret_text); /* false: NULL */
};

struct lvt_sql_error {
    char sqlstate[6]; /* "" when the error is not the server's */
    char text[400];
};

enum lvt_tx_result {
    LVT_TX_OK,
    LVT_TX_DUPLICATE, /* its record was there already: nothing was done */
    LVT_TX_ERROR,
    LVT_TX_OUTAGE, /* nothing of it was committed */
};

typedef void lvt_tx_done(void *ctx, enum lvt_tx_result result, const struct lvt_sql_error *error);
/* rows with OK, error with ERROR, else NULL. */
typedef void lvt_rows_done(void *ctx, enum lvt_answer answer, const struct lvt_rows *rows,
                           const struct lvt_sql_error *error);

/* What became of a row of the outbox. */
enum lvt_outbox_result {
    LVT_OUTBOX_SENT,    /* the broker has confirmed it */
    LVT_OUTBOX_LATER,   /* the broker did not take it: again after a while */
    LVT_OUTBOX_WRONG,   /* it cannot be published, now or later */
    LVT_OUTBOX_SKIPPED, /* it was not tried: one before it was not taken, or the worker stops */
};

/* A committed event that the ledger gives to the engine, which gives it back with its result. */
struct lvt_outbox_row {
    struct lvt_outbox_row *next; /* of the list that is handed over */
    int64_t number;
    struct lvt_bytes key; /* rows of one key leave one after the other; empty: no key */
    struct lvt_outgoing outgoing;
    struct lvt_arena *arena; /* the ledger's, for what the engine makes of it */
    enum lvt_outbox_result result;
    char reason[200]; /* of LATER and WRONG */
    /* the engine's */
    struct lvt_outbox_row *bucket_next;      /* of the rows under way, by key */
    struct lvt_outbox_row *followers, *last; /* later ones of its key */
    struct lvt_publish publish;
};

struct lvt_ledger_port {
    void *self;
    /* False while its sessions are lost: no handler may start. */
    bool (*ready)(void *self);
    /* Answered by claimed, in any order and in any number of lists. Waits while the ledger is away.
     */
    void (*claim)(void *self, struct lvt_claim *list);
    /* Answered by recorded, once they are durable. Ends the claims. Waits while the ledger is away.
     */
    void (*record)(void *self, struct lvt_claim *list);
    /* Gives a claim up, without a record. No answer; the claim may go at once. Also forgets a claim
     * or record that has not been answered. */
    void (*release)(void *self, struct lvt_claim *claim);

    /* Opens a transaction that starts with the claim's record (none when claim is NULL). NULL when
     * out of memory. Its end is one call of tx_commit (whose answer ends the claim too when it is
     * OK or DUPLICATE) or of tx_rollback. */
    struct lvt_tx *(*tx_begin)(void *self, struct lvt_claim *claim, lvt_tx_done *done, void *ctx);
    void (*tx_query)(void *self, struct lvt_tx *tx, const struct lvt_sql *sql, lvt_rows_done *done,
                     void *ctx);
    /* A COMMIT whose answer was lost has been looked up before this answers. */
    void (*tx_commit)(void *self, struct lvt_tx *tx, lvt_tx_done *done, void *ctx);
    /* At any time, with an answer still out too, which then never comes. */
    void (*tx_rollback)(void *self, struct lvt_tx *tx);

    /* Writes down, within the transaction, that a pattern is to be invalidated after it. The rows
     * of the answer hold one integer: the invalidation's number. */
    void (*tx_invalidate)(void *self, struct lvt_tx *tx, struct lvt_bytes pattern,
                          lvt_rows_done *done, void *ctx);
    void (*invalidated)(void *self, int64_t number);

    /* Writes the event, which has its id and has been checked, into the outbox. Copied before the
     * call returns. */
    void (*tx_publish)(void *self, struct lvt_tx *tx, const struct lvt_outgoing *outgoing,
                       lvt_rows_done *done, void *ctx);
    /* Takes a row back that outbox_due has handed over. */
    void (*outbox_done)(void *self, struct lvt_outbox_row *row);
};

struct lvt_ledger_sink {
    void *ctx;
    void (*claimed)(void *ctx, struct lvt_claim *list);
    void (*recorded)(void *ctx, struct lvt_claim *list);
    void (*ready_changed)(void *ctx, bool ready);
    /* An invalidation that a crash or an outage left behind: run it, then call invalidated. */
    void (*invalidation_due)(void *ctx, int64_t number, struct lvt_bytes pattern);
    /* Committed events to publish, in order. No more come until all of them are given back. */
    void (*outbox_due)(void *ctx, struct lvt_outbox_row *list);
};

/* ---- cache ---- */

enum lvt_reply_kind {
    LVT_REPLY_NIL,
    LVT_REPLY_STATUS,
    LVT_REPLY_INTEGER,
    LVT_REPLY_STRING,
    LVT_REPLY_ARRAY,
    LVT_REPLY_ERROR, /* only inside an array */
};

/* Valid until the callback that gets it returns. */
struct lvt_reply {
    enum lvt_reply_kind kind;
    int64_t integer;
    struct lvt_bytes text;
    struct lvt_reply *items;
    size_t count;
};

typedef void lvt_reply_done(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                            const char *error);
typedef void lvt_invalidate_done(void *ctx, enum lvt_answer answer, int64_t removed,
                                 const char *error);

struct lvt_cache_port {
    void *self;
    /* An outage answers within two seconds, it does not wait. */
    void (*command)(void *self, const struct lvt_bytes *argv, size_t argc, lvt_reply_done *done,
                    void *ctx);
    /* Removes every key that fits the pattern (Redis's glob). */
    void (*invalidate)(void *self, struct lvt_bytes pattern, lvt_invalidate_done *done, void *ctx);
};

/* ---- http ---- */

struct lvt_http_header {
    struct lvt_bytes name, value;
};

struct lvt_http_request {
    struct lvt_bytes method, url, body;
    const struct lvt_http_header *headers;
    size_t header_count;
    uint64_t timeout_ms;
};

struct lvt_http_response {
    int status;
    const struct lvt_http_header *headers; /* names in lower case */
    size_t header_count;
    struct lvt_bytes body;
};

/* response when it is not NULL, else error. */
typedef void lvt_http_done(void *ctx, const struct lvt_http_response *response, const char *error);

struct lvt_http_port {
    void *self;
    void (*request)(void *self, const struct lvt_http_request *request, lvt_http_done *done,
                    void *ctx);
};

#endif
