/* What the files of the ledger share. */
#ifndef LEVERET_LEDGER_STATE_H
#define LEVERET_LEDGER_STATE_H

#include <libpq-fe.h>
#include <uv.h>

#include "ledger/ledger.h"
#include "ledger/pg_array.h"
#include "ledger/pg_connection.h"
#include "ledger/rows.h"

/* The schema that sql/ makes. */
#define LVT_SCHEMA_VERSION 2

/* Advisory locks of the database with one meaning each. An event's lock is the first half of its
 * key; that one of them is the same is as likely as a collision. */
#define LVT_LOCK_RETENTION "7307500317254018049"
/* The first half of a lock of two halves, which never meets one of those above. */
#define LVT_LOCK_OUTBOX "1819703925"

/* How every session of ours begins; `more` is further columns, each with a comma behind it. What a
 * server of another version or system does not know is left out. */
#define LVT_SETUP_SQL(more)                                                                        \
    "SELECT pg_backend_pid(), set_config('timezone', 'UTC', false),"                               \
    " set_config('synchronous_commit', CASE current_setting('synchronous_commit')"                 \
    "   WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),"                            \
    " set_config('default_transaction_isolation', 'read committed', false),"                       \
    " set_config('default_transaction_read_only', 'off', false),"                                  \
    " set_config('idle_in_transaction_session_timeout', '0', false)," more                         \
    " (SELECT count(set_config(s.name, v.value, false)) FROM pg_settings s JOIN (VALUES"           \
    "   ('idle_session_timeout', '0', ''), ('client_connection_check_interval', '5s', 'linux'),"   \
    "   ('tcp_keepalives_idle', '10', 'linux'), ('tcp_keepalives_interval', '5', 'linux'),"        \
    "   ('tcp_keepalives_count', '3', 'linux'), ('tcp_user_timeout', '30s', 'linux'))"             \
    "  v(name, value, system) ON v.name = s.name WHERE version() LIKE '%' || v.system || '%')"

/* For our own short statements. With enable_seqscan off, one that finds no index looks so expensive
 * that the server compiles it, for half a second of its processor. */
#define LVT_NO_JIT_SQL " set_config('jit', 'off', false),"

/* Where a claim is. HELD and later it is in hand: locked, and locked again after a loss. */
enum lvt_claim_phase {
    LVT_PHASE_NONE,
    LVT_PHASE_WAITING,   /* to be asked for */
    LVT_PHASE_ASKING,    /* in the round under way; slot is its place there */
    LVT_PHASE_HELD,      /* its event runs */
    LVT_PHASE_TO_RECORD, /* its event is done */
    LVT_PHASE_RECORDING, /* in the round under way; slot is its place there */
};

struct lvt_claims {
    struct lvt_claim *first, *last;
    uint32_t count;
};

/* A key in the round under way. */
struct lvt_asked {
    unsigned char key[LVT_KEY_BYTES];
    unsigned char legacy_key[LVT_KEY_BYTES]; /* of (name, '', type, id); unset without such rows */
    struct lvt_claim *claim;                 /* NULL when it was released meanwhile */
    bool locked;
    bool found;
};

struct lvt_asked_list {
    struct lvt_asked *items;
    uint32_t count, size;
};

struct lvt_round {
    bool under_way;
    struct lvt_asked_list claims, records;
    struct lvt_pg_array unlock_keys, lock_keys, lookup_keys;
    struct lvt_pg_array ids, event_ids, event_types, queues;
    char claim_state[6], record_state[6]; /* the SQLSTATE of what failed, or "" */
    bool skipped;                         /* the insert, because of what failed before it */
    bool unlocks_due;                     /* they have waited long enough */
    struct leveret_error error;
    bool some_recorded;    /* among those to be recorded is one that is there already */
    uint32_t record_max;   /* halves when a batch has to be split */
    uint32_t lock_max;     /* halves when the server runs out; much later it grows again */
    uint64_t locks_out_ms; /* when it did, by the loop's clock */
    uv_timer_t timer; /* a pause after a failure, the deadline of what is under way, or unlocks' */
    bool paused;
};

enum lvt_session_state {
    LVT_SESSION_AWAY,
    LVT_SESSION_CHECKING,
    LVT_SESSION_ALONE,   /* behind a pooler: wait for a second one, which must be another */
    LVT_SESSION_GHOST,   /* the session lost before still holds its locks: wait for its end */
    LVT_SESSION_PAUSED,  /* out of locks: try again in a moment */
    LVT_SESSION_LOCKING, /* what is in hand */
    LVT_SESSION_READY,
};

enum lvt_tx_phase {
    LVT_TX_PHASE_WAITING, /* for a connection */
    LVT_TX_PHASE_BEGINNING,
    LVT_TX_PHASE_OPEN,
    LVT_TX_PHASE_COMMITTING,
    LVT_TX_PHASE_LOOKING_UP, /* its COMMIT's answer was lost; or waiting for a connection to do so
                              */
    LVT_TX_PHASE_OVER,       /* until it is committed or rolled back by its owner */
};

/* An answer that is due: of a statement, or a transaction's own. */
struct lvt_call {
    struct lvt_call *next;
    uint64_t turn; /* of the loop that deferred it */
    struct lvt_pooled *on;
    struct lvt_tx *tx; /* NULL when nobody wants the answer any more */
    bool local;        /* a setting for the transaction alone */
    lvt_rows_done *done;
    void *ctx;
    enum lvt_answer answer;
    PGresult *result;
    struct lvt_row_store rows;
    struct lvt_sql_error error;
};

struct lvt_tx {
    struct lvt_tx *prev, *next; /* of all */
    struct lvt_tx *waiting_next;
    struct lvt_pooled *on; /* its connection */
    enum lvt_tx_phase phase;
    enum lvt_tx_result over; /* what a commit of it answers, once it is over */
    struct lvt_claim *claim;
    bool inserted;
    bool published;    /* it has written into the outbox */
    bool ending;       /* its owner has asked for the commit */
    lvt_tx_done *done; /* of the begin or the commit that has no answer yet */
    void *ctx;
    struct lvt_sql_error error;
    struct lvt_call own; /* defers that answer, which must not depend on there being memory */
};

/* A connection for transactions. */
struct lvt_pooled {
    struct lvt_pooled *next;
    struct lvt_ledger *ledger;
    struct lvt_pg *pg;
    bool up;
    struct lvt_tx *tx;
    struct lvt_call *first, *last; /* statements under way, whose transaction may be gone */
    uint32_t syncs;                /* answers that are still to come before it is free */
    bool rolled_back;
    bool dirty; /* a handler has changed the session's settings: not for the next one */
    bool set;   /* or those of its transaction */
    bool cancelling;
    uint32_t cancels; /* in a row */
    uv_timer_t timer; /* to the next of them */
    PGcancel *cancel;
    uv_work_t work;
};

struct lvt_chores;
struct lvt_outbox;

struct lvt_ledger {
    struct lvt_ledger_options options;
    char *url, *name, *application;
    bool started, closing;
    uint32_t open_handles; /* what close still waits for */
    void (*closed)(void *ctx);
    void *closed_ctx;
    uv_idle_t soon; /* runs rounds and answers that must not come before a call has returned */

    /* the session that holds the locks */
    struct lvt_pg *pg;
    enum lvt_session_state session;
    uv_timer_t session_timer;
    unsigned lock_tries;
    bool was_ready; /* at least once */
    bool others_opened;
    bool sure_of_pooler; /* it has given two connections a session each */
    bool failed;
    bool legacy; /* rows of a migrated table are there: look up both keys */
    struct leveret_error failure;
    char logged[512]; /* the outage that the log has been told of */
    int ghost_pid;    /* of the last session, and when it began */
    char ghost_began[64], began[64];

    struct lvt_claims waiting, held, to_record, recording;
    int64_t *unlocks; /* locks to give up, room for max_claims */
    uint32_t unlock_count;
    uint32_t locks; /* on the server: in hand, asked for, or to be given up */
    struct lvt_round round;

    /* transactions */
    struct lvt_pooled *pooled; /* a list */
    uint32_t pooled_count;
    struct lvt_tx *txs;                        /* all, for a claim that is released under one */
    struct lvt_tx *tx_first, *tx_last;         /* waiting for a connection */
    struct lvt_call *deferred, *deferred_last; /* answers for the loop to give */
    uint64_t turn;                             /* how often it has given some */
    bool pool_logged;

    struct lvt_chores *chores;
    struct lvt_outbox *outbox;
};

/* ledger.c */
void lvt_ledger_soon(struct lvt_ledger *ledger);
void lvt_ledger_count_closed(void *ctx); /* one handle of close's is gone */

/* session.c */
bool lvt_session_init(struct lvt_ledger *ledger);
void lvt_session_close(struct lvt_ledger *ledger);
/* Out of locks: give all up, take those in hand again, then go on. */
void lvt_session_relock(struct lvt_ledger *ledger, const struct leveret_error *err);
/* Another connection is up, in a session of its own. */
void lvt_session_second(struct lvt_ledger *ledger);
/* Another connection cannot be had, or only in a session that is shared. */
void lvt_session_no_second(struct lvt_ledger *ledger, const struct lvt_pg *other,
                           const struct leveret_error *err);
/* The session is of no use: connect anew. */
void lvt_session_fail(struct lvt_ledger *ledger, const struct leveret_error *err);

/* claims.c */
void lvt_claims_append(struct lvt_claims *claims, struct lvt_claim *claim,
                       enum lvt_claim_phase phase);
void lvt_claims_remove(struct lvt_claims *claims, struct lvt_claim *claim);
void lvt_claims_ask(void *self, struct lvt_claim *list);
void lvt_claims_record(void *self, struct lvt_claim *list);
void lvt_claims_release(void *self, struct lvt_claim *claim);
/* A claim in hand is over: gives up its lock. */
void lvt_claims_end(struct lvt_ledger *ledger, struct lvt_claim *claim);
void lvt_claims_unlock(struct lvt_ledger *ledger, const unsigned char key[LVT_KEY_BYTES]);
int64_t lvt_claims_lock_key(const unsigned char key[LVT_KEY_BYTES]);

/* round.c */
void lvt_round_init(struct lvt_ledger *ledger);
void lvt_round_close(struct lvt_ledger *ledger);
void lvt_round_free(struct lvt_ledger *ledger);
void lvt_round_start(struct lvt_ledger *ledger); /* when there is something to do, and it may */
void lvt_round_lost(struct lvt_ledger *ledger);  /* what has no answer is asked again later */

/* transaction.c, pool.c */
struct lvt_tx *lvt_tx_begin(void *self, struct lvt_claim *claim, lvt_tx_done *done, void *ctx);
void lvt_tx_query(void *self, struct lvt_tx *tx, const struct lvt_sql *sql, lvt_rows_done *done,
                  void *ctx);
void lvt_tx_commit(void *self, struct lvt_tx *tx, lvt_tx_done *done, void *ctx);
void lvt_tx_rollback(void *self, struct lvt_tx *tx);
void lvt_tx_invalidate(void *self, struct lvt_tx *tx, struct lvt_bytes pattern, lvt_rows_done *done,
                       void *ctx);
void lvt_tx_claim_released(struct lvt_ledger *ledger, struct lvt_claim *claim);
void lvt_tx_answer_deferred(struct lvt_ledger *ledger);
/* The connection has become the transaction's: begins it, or looks its record up. */
void lvt_tx_run(struct lvt_pooled *pooled);
/* The connection of a transaction was lost, with the answers of all that was under way. */
void lvt_tx_lost(struct lvt_pooled *pooled);
/* No connection can be made: whoever waits for one has an outage. */
void lvt_tx_refuse_waiting(struct lvt_ledger *ledger);

/* A connection for a transaction, now or as soon as there is one. */
void lvt_pool_want(struct lvt_ledger *ledger, struct lvt_tx *tx, bool first);
void lvt_pool_forget(struct lvt_ledger *ledger, struct lvt_tx *tx);
/* Takes the transaction off its connection, which is rolled back if need be and used again. With
 * stop, what runs on it is cancelled. */
void lvt_pool_detach(struct lvt_pooled *pooled, bool stop);
/* Goes on with a connection that has got an answer and belongs to nobody. */
void lvt_pool_settle(struct lvt_pooled *pooled);
void lvt_pool_drop(struct lvt_pooled *pooled);
/* PostgreSQL is back. */
void lvt_pool_hurry(struct lvt_ledger *ledger);
void lvt_pool_close(struct lvt_ledger *ledger);
void lvt_pool_free(struct lvt_ledger *ledger);

/* outbox_write.c */
void lvt_outbox_write(void *self, struct lvt_tx *tx, const struct lvt_outgoing *outgoing,
                      lvt_rows_done *done, void *ctx);

/* outbox.c */
bool lvt_outbox_init(struct lvt_ledger *ledger);
void lvt_outbox_open(struct lvt_ledger *ledger);
void lvt_outbox_close(struct lvt_ledger *ledger);
void lvt_outbox_free(struct lvt_ledger *ledger);
void lvt_outbox_done(void *self, struct lvt_outbox_row *row);
/* A transaction that wrote into the outbox has committed: look soon. */
void lvt_outbox_look(struct lvt_ledger *ledger);
void lvt_outbox_status(const struct lvt_ledger *ledger, struct lvt_outbox_status *ret_status);

/* chores.c */
bool lvt_chores_init(struct lvt_ledger *ledger);
void lvt_chores_open(struct lvt_ledger *ledger);
void lvt_chores_reopen(struct lvt_ledger *ledger);
void lvt_chores_close(struct lvt_ledger *ledger);
void lvt_chores_free(struct lvt_ledger *ledger);
void lvt_chores_invalidated(void *self, int64_t number);

#endif
