/* A world for the real engine: a seeded clock, a broker, a database, a cache and some workers whose
 * connections and processes fail. Everything that happens comes from one seed: no wall clock, no
 * addresses, no order that memory decides. */
#ifndef LEVERET_TESTS_SIM_SIM_H
#define LEVERET_TESTS_SIM_SIM_H

#include "engine/engine.h"
#include "engine/run.h"

#define SIM_WORKERS_MAX 3
#define SIM_QUEUES_MAX 3
#define SIM_HANDLERS_MAX 4
#define SIM_FACTS_MAX 28
#define SIM_ATTEMPTS_MAX 16
#define SIM_PENDING_MAX 256

#define SIM_NAME "worker"
#define SIM_DEAD_LETTERS "dead"

struct sim;
struct sim_worker;

/* ---- time ---- */

typedef void sim_step(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b);

/* Something that happens later. */
struct sim_task {
    struct lvt_timer timer;
    struct sim_task *next; /* of all, or of the free ones */
    struct sim_task *next_free;
    struct sim *sim;
    sim_step *step;
    struct sim_worker *worker;
    uint64_t life; /* of the worker that it is for; 0: it happens whatever became of the worker */
    uint64_t a, b;
};

/* ---- facts: what was published, and what has become of it ---- */

enum sim_nature {
    SIM_FACT_GOOD,
    SIM_FACT_MALFORMED,  /* its body is no JSON */
    SIM_FACT_NO_HANDLER, /* nobody takes its type */
    SIM_FACT_LEGACY,     /* the migrated table has it already */
};

/* One event in one queue. */
struct sim_fact {
    unsigned index, queue, handler;
    enum sim_nature nature;
    char id[24]; /* "" when it has none */
    char type[16];
    char body[128];
    uint32_t attempts_before; /* that its message says were made */
    bool own_header;          /* says so by our header, else by x-retry-count */
    bool uses_db;             /* its handler writes a row, whenever it succeeds */
    unsigned char key[LVT_KEY_BYTES];

    unsigned published; /* by the outside: copies that were confirmed */
    /* Faults that may leave it with another copy, or with a second run. */
    unsigned excuses;
    bool ledger_lost;    /* another worker may run it too */
    bool commit_unknown; /* nobody is left who knows what became of a commit */

    unsigned failures_min, failures_max; /* attempts that certainly, or perhaps, failed */
    unsigned rejections;
    unsigned successes; /* runs that ended well; without an id this is all there is */
    unsigned running, running_on[SIM_WORKERS_MAX];
    uint64_t claimed_in[SIM_WORKERS_MAX];  /* the session that last got a claim of it */
    uint64_t met_in[SIM_WORKERS_MAX];      /* the life in which it last met Redis' outage */
    uint64_t met_after[SIM_WORKERS_MAX];   /* so many signs of life */
    uint64_t due_ms[SIM_ATTEMPTS_MAX + 1]; /* by attempt: no sooner than this; 0: not known */
    uint64_t snoozed_until_ms;
    bool recorded;
    unsigned rows;
    unsigned dead_letters;
};

/* ---- children: what handlers publish ---- */

/* The outbox's row of a child that is published in a transaction. */
enum sim_row {
    SIM_ROW_NONE,
    SIM_ROW_WRITTEN, /* by a transaction that is open */
    SIM_ROW_THERE,   /* committed */
    SIM_ROW_GONE,    /* rolled back */
    SIM_ROW_DELETED, /* after it was sent */
};

struct sim_child {
    struct sim_child *next;
    unsigned number;
    struct sim_fact *parent;
    bool in_tx;
    enum sim_row row;
    bool unsure; /* handed to a relay, and not given back as not sent */
    char id[16], body[64], queue[8], key[4];
    unsigned copies; /* that the broker has confirmed */
    /* Faults that may leave it with another copy. */
    unsigned excuses;
};

/* ---- broker ---- */

enum sim_message_state {
    SIM_MESSAGE_SENT, /* on its way to the broker */
    SIM_MESSAGE_DELAYED,
    SIM_MESSAGE_READY,
    SIM_MESSAGE_UNACKED,
    SIM_MESSAGE_DEAD,
    SIM_MESSAGE_ELSEWHERE, /* a child, in a queue that is nobody's here */
};

struct sim_message {
    struct sim_message *next;
    struct lvt_arena arena; /* of its texts */
    uint64_t number;
    struct sim_fact *fact;
    struct sim_child *child; /* not NULL: it is that, and the fact is its parent */
    enum sim_message_state state;
    enum lvt_destination_kind kind; /* while it is on its way */
    uint64_t delay_ms;
    struct lvt_properties properties;
    struct lvt_bytes body;
    uint32_t attempts_made; /* as its headers say */
    struct sim_worker *worker;
    uint64_t publishing; /* the worker's connection that it was sent on */
    uint64_t epoch, tag; /* UNACKED */
    bool redelivered;
    bool confirmed; /* a restart does not lose it */
    bool acked;     /* unless the ack is lost */
};

/* A delivery that the worker's port has handed to the engine. */
struct sim_handed {
    struct sim_handed *next;
    uint64_t tag, message;
    struct sim_fact *fact;
    uint32_t attempts_made;
    bool settled;
};

/* A publish that has no answer. */
struct sim_outgoing {
    struct sim_outgoing *next;
    struct lvt_publish *publish;
    struct sim_fact *fact;
    struct sim_child *child; /* as in a message */
    uint64_t message;        /* as it was sent; 0: it waits */
};

/* A worker's connections to the broker: each end learns of a cut in its own time. */
struct sim_link {
    uint64_t epoch;        /* of the consuming channel; 0: none, as the worker knows */
    uint64_t broker_epoch; /* the same, as the broker knows */
    uint64_t last_epoch;   /* never used again, over all lives */
    uint64_t last_tag;     /* starts anew with each channel */
    uint64_t publishing;   /* the publishing connection; 0: none */
    uint64_t last_publishing;
    uint64_t lost_publishing; /* up to this one the broker has closed them */
    uint64_t blocked_until_ms;
    bool cancelled;
    struct sim_handed *handed;
    struct sim_settled {
        uint64_t tag;
        bool requeue;             /* else it is acked */
    } settled[SIM_FACTS_MAX * 8]; /* until they are flushed */
    size_t settled_count;
    bool not_consumed[SIM_QUEUES_MAX]; /* its handlers are gone */
    struct sim_outgoing *outgoing;
};

/* ---- database ---- */

/* A transaction as the server has it. */
struct sim_server_tx {
    struct sim_server_tx *next;
    uint64_t number;
    struct sim_fact *fact;
    bool inserted; /* holds the fact's record, uncommitted */
    bool aborted;
    unsigned rows;
    int64_t pending[8]; /* invalidations */
    unsigned pending_count;
    struct sim_child *children[8]; /* rows of the outbox */
    unsigned child_count;
};

struct sim_pending {
    int64_t number;
    char pattern[24];
    uint64_t since_ms;
    bool there;
};

struct sim_database {
    bool down;
    uint64_t last_session, last_tx;
    bool sessions[4096];                 /* by number: alive on the server */
    uint64_t lock_holder[SIM_FACTS_MAX]; /* session; 0: nobody */
    unsigned lock_count[SIM_FACTS_MAX];  /* session locks are re-entrant */
    struct sim_server_tx *txs;
    struct sim_pending pending[SIM_PENDING_MAX]; /* committed invalidations */
    size_t pending_count;
    int64_t last_number;
    uint64_t relay; /* the session that may relay; 0: none has asked */
};

struct sim_claims {
    struct lvt_claim *first, *last;
};

struct sim_asked {
    struct lvt_claim *claim; /* NULL when it was released meanwhile */
    struct sim_fact *fact;
    bool locked, found;
};

/* A statement that has no answer. */
struct sim_call {
    struct sim_call *next;
    uint64_t number;
    enum { SIM_CALL_SELECT, SIM_CALL_INSERT, SIM_CALL_INVALIDATE, SIM_CALL_PUBLISH } kind;
    char pattern[24];
    struct sim_child *child;
    lvt_rows_done *done;
    void *ctx;
};

enum sim_tx_phase {
    SIM_TX_BEGINNING,
    SIM_TX_OPEN,
    SIM_TX_COMMITTING,
    SIM_TX_LOOKING_UP,
    SIM_TX_OVER,
};

struct lvt_tx {
    struct lvt_tx *next;
    struct sim_worker *worker;
    uint64_t number; /* of the server's */
    struct sim_fact *fact;
    struct lvt_claim *claim;
    enum sim_tx_phase phase;
    bool connected;
    lvt_tx_done *done;
    void *ctx;
    struct sim_call *calls;
};

/* A row of the outbox that the engine has. */
struct sim_relayed {
    struct lvt_outbox_row row;
    struct lvt_arena arena;
    struct sim_child *child;
    bool back;
};

#define SIM_RELAYED_MAX 6

struct sim_relay {
    uint64_t session; /* that it was read in */
    struct sim_relayed rows[SIM_RELAYED_MAX];
    size_t count, out; /* of the last time, and those that are not back */
};

/* A worker's connections to the database. */
struct sim_ledger {
    uint64_t session; /* 0: away */
    bool ready;
    uint64_t ghost; /* the session before */
    struct sim_claims waiting, held, to_record;
    struct sim_asked claims[SIM_FACTS_MAX], records[SIM_FACTS_MAX];
    size_t claim_count, record_count;
    uint64_t round; /* under way; 0: none */
    uint64_t last_round;
    struct sim_fact *unlocks[SIM_FACTS_MAX * 4];
    size_t unlock_count;
    struct lvt_tx *txs;
    unsigned tx_count;
    struct sim_relay relay;
};

/* ---- workers ---- */

/* A question to Redis or over HTTP. */
struct sim_question {
    struct sim_question *next;
    uint64_t number;
    lvt_reply_done *reply;
    lvt_invalidate_done *invalidate;
    lvt_http_done *http;
    void *ctx;
    bool ping;
    char pattern[24];
};

struct sim_worker {
    struct sim *sim;
    unsigned index;
    uint64_t life; /* one more with each start */
    bool alive;
    bool dying; /* thrown away: nothing that it does reaches the world */
    bool stopping;
    bool in_timers;
    bool pump_due;
    uint64_t paused_until_ms;
    struct lvt_engine *engine;
    struct lvt_routes routes;
    struct lvt_stats *stats;
    struct lvt_timers timers;
    struct lvt_broker_sink broker_sink;
    struct lvt_ledger_sink ledger_sink;
    unsigned running[SIM_HANDLERS_MAX];
    bool unlimited[SIM_HANDLERS_MAX]; /* runs of a handler that was removed go on beside it */
    struct sim_link link;
    struct sim_ledger ledger;
    struct sim_question *questions;
    /* That Redis may be well: it has answered a PING, or an event is done, which has no ack when
     * its channel is lost. */
    uint64_t signs;
};

/* What a handler is like, the same in every worker. */
struct sim_plan {
    unsigned queue;
    char name[16];
    struct lvt_retry_policy retry;
    uint64_t timeout_ms;
    uint32_t concurrency;
    double rate;
};

struct sim {
    uint64_t seed, random;
    uint64_t now_ms;
    bool tracing;
    bool faults; /* else everything heals and what is left drains */
    char failure[512];
    struct lvt_log log;
    struct lvt_timers timers;
    struct sim_task *tasks, *free_tasks;
    uint64_t last_number; /* of messages, questions, calls */

    unsigned queue_count, handler_count, worker_count, fact_count;
    uint32_t prefetch, pool;
    struct sim_plan plans[SIM_HANDLERS_MAX];
    struct sim_fact facts[SIM_FACTS_MAX];
    struct sim_worker workers[SIM_WORKERS_MAX];

    struct sim_child *children, **children_last;
    unsigned child_count;
    struct sim_message *messages, **messages_last;
    bool broker_down, dispatch_due;
    unsigned refuse_permille, return_permille; /* of publishes */
    struct sim_database db;
    bool cache_down;
    uint64_t invalidated_ms[SIM_FACTS_MAX]; /* last, of the fact's pattern */
    uint64_t wanted_ms[SIM_FACTS_MAX];      /* last commit that asked for it */
    struct sim_run *runs;
    uint64_t events; /* how much has happened */
};

/* ---- world.c ---- */

/* Runs a seed to its end. False when something was not as it must be: sim->failure says what. */
bool sim_run(uint64_t seed, bool tracing, char *ret_failure, size_t size);

uint64_t sim_random(struct sim *sim);
unsigned sim_below(struct sim *sim, unsigned limit); /* 0 .. limit - 1 */
bool sim_chance(struct sim *sim, unsigned permille);
/* As sim_chance, but never once the faults are over. */
bool sim_bad_luck(struct sim *sim, unsigned permille);
uint64_t sim_latency(struct sim *sim);
void sim_after(struct sim *sim, uint64_t delay_ms, sim_step *step, struct sim_worker *worker,
               uint64_t a, uint64_t b);
/* Does not happen when the worker ends before, and waits while it is paused. */
void sim_after_for(struct sim_worker *worker, uint64_t delay_ms, sim_step *step, uint64_t a,
                   uint64_t b);
void sim_say(struct sim *sim, const char *format, ...) LVT_PRINTF(2, 3);
/* The first one stands. */
void sim_fail(struct sim *sim, const char *format, ...) LVT_PRINTF(2, 3);
void *sim_alloc(size_t size);

#define SIM_SAY(sim, ...)                                                                          \
    do {                                                                                           \
        if ((sim)->tracing)                                                                        \
            sim_say((sim), __VA_ARGS__);                                                           \
    } while (0)

/* ---- facts.c ---- */
void sim_facts_make(struct sim *sim);
struct sim_fact *sim_fact_of_headers(struct sim *sim, const struct lvt_headers *headers);
struct sim_fact *sim_fact_of_claim(struct sim *sim, const struct lvt_claim *claim);
void sim_fact_publish(struct sim *sim, struct sim_worker *worker, uint64_t fact, uint64_t b);
/* The event may have one copy, or one run, more than faultless days would have given it. */
void sim_fact_excuse(struct sim *sim, struct sim_fact *fact, const char *why);

/* ---- children.c ---- */
struct sim_child *sim_child_new(struct sim *sim, struct sim_fact *parent, bool in_tx);
/* NULL when the headers are no child's. */
struct sim_child *sim_child_of_headers(struct sim *sim, const struct lvt_headers *headers);
void sim_child_outgoing(const struct sim_child *child, struct lvt_header *header,
                        struct lvt_outgoing *ret_outgoing);
void sim_child_excuse(struct sim *sim, struct sim_child *child, const char *why);
/* The handler hears of it. */
void sim_child_told(struct sim *sim, const struct sim_child *child, enum lvt_answer answer);
void sim_check_child_publish(struct sim_worker *worker, const struct lvt_publish *publish,
                             const struct sim_child *child);
bool sim_children_settled(const struct sim *sim);
void sim_check_children(struct sim *sim);
void sim_children_free(struct sim *sim);

/* ---- broker.c: the server ---- */
struct sim_message *sim_message_new(struct sim *sim, struct sim_fact *fact,
                                    const struct lvt_properties *properties, struct lvt_bytes body);
struct sim_message *sim_message_find(struct sim *sim, uint64_t number);
void sim_message_free(struct sim *sim, struct sim_message *message);
void sim_messages_free(struct sim *sim);
/* Whether a copy that tells of so many attempts, or a dead letter, is safe there, besides this one
 * and those that are acked. */
bool sim_broker_has_another(const struct sim *sim, const struct sim_fact *fact, uint64_t message,
                            uint32_t attempts_made);
void sim_broker_put(struct sim *sim, struct sim_message *message);
void sim_broker_arrived(struct sim *sim, struct sim_worker *worker, uint64_t number, uint64_t b);
void sim_broker_acked(struct sim *sim, struct sim_worker *worker, uint64_t tag, uint64_t epoch);
void sim_broker_requeued(struct sim *sim, struct sim_worker *worker, uint64_t tag, uint64_t epoch);
/* The broker sees that a channel is gone. */
void sim_broker_notices(struct sim *sim, struct sim_worker *worker, uint64_t epoch, uint64_t b);
void sim_broker_dispatch_soon(struct sim *sim);
void sim_broker_forget_unconfirmed(struct sim *sim);

/* ---- link.c: the broker port ---- */
struct lvt_broker_port sim_link_port(struct sim_worker *worker);
void sim_link_connect(struct sim *sim, struct sim_worker *worker, uint64_t consuming,
                      uint64_t publishing);
/* One of the two ends sees it at once. */
void sim_link_cut_consuming(struct sim_worker *worker, uint64_t worker_ms, uint64_t broker_ms,
                            uint64_t back_ms);
void sim_link_cut_publishing(struct sim_worker *worker, uint64_t worker_ms, uint64_t back_ms);
void sim_link_delivered(struct sim *sim, struct sim_worker *worker, uint64_t number,
                        uint64_t epoch);
void sim_link_answered(struct sim *sim, struct sim_worker *worker, uint64_t number,
                       uint64_t result);
void sim_link_flush(struct sim_worker *worker);
void sim_link_drop_publishes(struct sim_worker *worker); /* answers them: the port closes */
void sim_link_clear(struct sim_worker *worker);

/* ---- database.c: the server ---- */
struct sim_server_tx *sim_db_tx(struct sim *sim, uint64_t number);
void sim_db_tx_end(struct sim *sim, struct sim_worker *worker, uint64_t number, uint64_t commit);
bool sim_db_record_held(const struct sim *sim, const struct sim_fact *fact, uint64_t but_tx);
void sim_db_record(struct sim *sim, struct sim_fact *fact);
uint64_t sim_db_session_new(struct sim *sim);
void sim_db_session_end(struct sim *sim, struct sim_worker *worker, uint64_t session, uint64_t b);
bool sim_db_lock(struct sim *sim, uint64_t session, const struct sim_fact *fact);
void sim_db_unlock(struct sim *sim, uint64_t session, const struct sim_fact *fact);
void sim_db_free(struct sim *sim);

/* ---- ledger.c, transactions.c, relay.c, chores.c: the ledger port ---- */
struct lvt_ledger_port sim_ledger_port(struct sim_worker *worker);
void sim_ledger_connect(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b);
/* The session is over: the server sees it after server_ms, the worker after worker_ms. */
void sim_ledger_cut(struct sim_worker *worker, uint64_t worker_ms, uint64_t server_ms,
                    uint64_t back_ms);
void sim_ledger_kick(struct sim_worker *worker);
void sim_ledger_unlock(struct sim_worker *worker, struct sim_fact *fact);
void sim_ledger_end_claim(struct sim_worker *worker, struct lvt_claim *claim);
/* What it has in hand may run elsewhere from now on. */
void sim_ledger_excuse(struct sim_worker *worker);
void sim_ledger_clear(struct sim_worker *worker);
void sim_claims_remove(struct sim_claims *claims, struct lvt_claim *claim);
void sim_claims_append(struct sim_claims *claims, struct lvt_claim *claim, unsigned char phase);

struct lvt_tx *sim_tx_begin(void *self, struct lvt_claim *claim, lvt_tx_done *done, void *ctx);
void sim_tx_query(void *self, struct lvt_tx *tx, const struct lvt_sql *sql, lvt_rows_done *done,
                  void *ctx);
void sim_tx_commit(void *self, struct lvt_tx *tx, lvt_tx_done *done, void *ctx);
void sim_tx_rollback(void *self, struct lvt_tx *tx);
void sim_tx_invalidate(void *self, struct lvt_tx *tx, struct lvt_bytes pattern, lvt_rows_done *done,
                       void *ctx);
void sim_tx_publish(void *self, struct lvt_tx *tx, const struct lvt_outgoing *outgoing,
                    lvt_rows_done *done, void *ctx);
void sim_tx_claim_released(struct sim_worker *worker, const struct lvt_claim *claim);
/* Its connection is lost. */
void sim_tx_cut(struct lvt_tx *tx);
void sim_txs_clear(struct sim_worker *worker);

/* Looks for rows of the outbox, again and again. */
void sim_relay_look(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b);
void sim_relay_done(void *self, struct lvt_outbox_row *row);
void sim_relay_clear(struct sim_worker *worker);
/* Whether a row of its key that comes before this one has not been sent. */
bool sim_relay_overtakes(const struct sim_worker *worker, const struct sim_child *child);

void sim_chores_invalidated(void *self, int64_t number);
void sim_chores_sweep(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b);

/* ---- services.c: cache and http ports ---- */
struct lvt_cache_port sim_cache_port(struct sim_worker *worker);
struct lvt_http_port sim_http_port(struct sim_worker *worker);
void sim_questions_clear(struct sim_worker *worker);

/* ---- handlers.c ---- */
struct lvt_handler *sim_handler_new(struct sim_worker *worker, unsigned index);
bool sim_handlers_add(struct sim_worker *worker);
void sim_runs_free(struct sim *sim);

/* ---- reload.c ---- */
/* A handler's file changes. */
void sim_reload_one(struct sim_worker *worker);
/* All handlers of a queue go, and come back after a while, or at once when they are missing. */
void sim_reload_remove(struct sim_worker *worker);
void sim_reload_restore(struct sim *sim, struct sim_worker *worker, uint64_t queue, uint64_t b);

/* ---- worker.c ---- */
void sim_worker_start(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b);
/* As by SIGKILL: nothing that it has not sent reaches anybody. */
void sim_worker_kill(struct sim_worker *worker);
/* As by SIGTERM. */
void sim_worker_stop(struct sim_worker *worker);
void sim_worker_wake(struct sim_worker *worker);
void sim_worker_timers(struct sim_worker *worker);

/* ---- faults.c ---- */
void sim_faults_start(struct sim *sim);
void sim_faults_end(struct sim *sim);

/* ---- invariants.c ---- */
void sim_check_start(struct sim_worker *worker, const struct lvt_run *run, struct sim_fact *fact);
void sim_check_ack(struct sim_worker *worker, const struct sim_handed *handed);
void sim_check_publish(struct sim_worker *worker, const struct lvt_publish *publish,
                       struct sim_fact *fact);
bool sim_settled(const struct sim *sim);
void sim_check_idle(struct sim_worker *worker); /* its engine holds nothing any more */
void sim_check_end(struct sim *sim);

#endif
