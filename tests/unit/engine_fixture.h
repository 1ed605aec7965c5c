/* The real engine over the ports in memory, with a clock that the test turns and handlers that do
 * what the test says. Every ack is checked: it must come after a record or a confirmed publish. */
#ifndef LEVERET_TESTS_ENGINE_FIXTURE_H
#define LEVERET_TESTS_ENGINE_FIXTURE_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <stdio.h>
#include <stdlib.h>

#include "engine/effects.h"
#include "engine/engine.h"
#include "engine/message.h"
#include "engine/run.h"
#include "event/key.h"
#include "memory/memory_broker.h"
#include "memory/memory_cache.h"
#include "memory/memory_ledger.h"

#define NAME "worker"
#define EXCHANGE "events"
#define DEAD "dead.queue"
#define START_MS 1000000
#define WALL_MS 1790000000123

/* ---- what the test says and sees ---- */

struct world;

/* A handler's part: each run takes the next verdict, the last one for ever; or `body` runs it. */
struct script {
    struct world *world;
    struct lvt_handler *handler;
    void (*body)(struct script *script, struct lvt_run *run);
    struct lvt_verdict verdicts[8];
    unsigned verdict_count;
    unsigned starts, aborts, running, running_max;
    struct lvt_run *held[1024];
    size_t held_count;
    uint32_t attempt; /* of the last run, as are the others */
    char id[64], exchange[64], routing_key[64];
    char error[128];
    int64_t removed;
};

/* A confirmed publish. */
struct confirmed {
    char id[64];
    int64_t attempt;
    bool dead, failed;
    bool forwarded; /* or sent back to serve a delay */
};

/* A query that the test's database has not answered. */
struct query {
    struct query *next;
    struct lvt_tx *tx;
    lvt_rows_done *rows_done;
    lvt_tx_done *tx_done; /* of a commit that is to fail */
    void *ctx;
    char first_param[8];
};

struct world {
    uint64_t now_ms;
    struct lvt_timers timers;
    struct lvt_clock clock;
    struct lvt_log log;
    char last_log[512];
    struct lvt_routes routes;
    struct lvt_stats *stats;
    struct lvt_engine *engine;
    struct lvt_memory_broker *broker;
    struct lvt_memory_ledger *ledger;
    struct lvt_memory_cache *cache;
    struct lvt_broker_port broker_port;
    struct lvt_broker_sink engine_sink;
    struct lvt_ledger_port ledger_port;
    struct lvt_cache_port cache_port;
    struct script *scripts[16];
    size_t script_count;
    uint32_t pool;
    struct lvt_blackbox *box; /* a supervisor's, for tests that set it before world_open */
    struct lvt_charges *charges;
    struct confirmed confirmed[1024];
    size_t confirmed_count;
    unsigned acks, requeues, commits, invalidated, cache_invalidations, outbox_rows;
    unsigned outbox_results[LVT_OUTBOX_SKIPPED + 1];
    struct query *queries, **queries_last;
    bool hold_queries;
    enum lvt_answer query_answer;
    enum lvt_tx_result commit_result; /* of the next `commit_failures` commits */
    unsigned commit_failures;
    bool copies;      /* a delivery may be the retry of the run that it joins */
    bool ended;       /* drained and abandoned by the test */
    char sqlstate[6]; /* of the errors of queries and commits */
};

/* ---- clock ---- */

static inline uint64_t world_now(void *self) {
    return ((struct world *)self)->now_ms;
}

static inline int64_t world_wall(void *self) {
    return WALL_MS + (int64_t)(((struct world *)self)->now_ms - START_MS);
}

static inline uint32_t world_random(void *self) {
    (void)self;
    return 0;
}

static inline void world_log(void *ctx, enum lvt_level level, const char *text,
                             const struct lvt_field *fields, size_t count) {
    struct world *world = ctx;
    (void)level;
    (void)fields;
    (void)count;
    snprintf(world->last_log, sizeof world->last_log, "%s", text);
}

/* ---- runtime ---- */

static inline void copy_text(char *to, size_t size, struct lvt_bytes from) {
    snprintf(to, size, "%.*s", (int)from.len, from.len ? from.data : "");
}

static inline void let_go(struct script *script, const struct lvt_run *run) {
    script->running--;
    for (size_t i = 0; i < script->held_count; i++)
        if (script->held[i] == run) {
            script->held[i] = script->held[--script->held_count];
            return;
        }
}

static inline struct script *script_of(const struct lvt_run *run) {
    return run->handler->runtime_self;
}

static inline void finish_with(struct lvt_run *run, const struct lvt_verdict *verdict) {
    let_go(script_of(run), run);
    lvt_run_finish(run, verdict);
}

static inline void finish(struct lvt_run *run, enum lvt_verdict_kind kind, const char *reason) {
    const struct lvt_verdict verdict = {
        .kind = kind, .reason = lvt_bytes_of(reason), .after_ms = -1};
    finish_with(run, &verdict);
}

/* A body: the run goes on until the test ends it. */
static inline void hold(struct script *script, struct lvt_run *run) {
    assert_true(script->held_count < sizeof script->held / sizeof script->held[0]);
    script->held[script->held_count++] = run;
}

static inline void runtime_start(void *self, struct lvt_run *run) {
    struct script *script = self;
    static const struct lvt_verdict done = {.kind = LVT_VERDICT_DONE};
    const struct lvt_event *event = run->event;
    script->starts++;
    if (++script->running > script->running_max)
        script->running_max = script->running;
    script->attempt = event->attempt;
    copy_text(script->id, sizeof script->id, event->id);
    copy_text(script->exchange, sizeof script->exchange, event->exchange);
    copy_text(script->routing_key, sizeof script->routing_key, event->routing_key);
    unsigned turn = script->starts;
    if (turn > script->verdict_count)
        turn = script->verdict_count;
    if (script->body)
        script->body(script, run);
    else
        finish_with(run, turn ? &script->verdicts[turn - 1] : &done);
}

static inline void runtime_abort(void *self, struct lvt_run *run) {
    struct script *script = self;
    script->aborts++;
    let_go(script, run);
}

static inline void runtime_destroy(void *self) {
    free(self);
}

static const struct lvt_runtime runtime = {runtime_start, runtime_abort, runtime_destroy};

static inline void add_verdict(struct script *script, struct lvt_verdict verdict) {
    script->verdicts[script->verdict_count++] = verdict;
}

#define RETRY(text)                                                                                \
    ((struct lvt_verdict){.kind = LVT_VERDICT_RETRY, .reason = LVT_LITERAL(text), .after_ms = -1})
#define DONE ((struct lvt_verdict){.kind = LVT_VERDICT_DONE})

/* ---- ports, watched ---- */

static inline void key_of(const char *queue, const char *type, const char *id,
                          unsigned char key[LVT_KEY_BYTES]) {
    lvt_event_key(LVT_LITERAL(NAME), lvt_bytes_of(queue), lvt_bytes_of(type), lvt_bytes_of(id),
                  key);
}

static inline int64_t header_number(const struct lvt_headers *headers, const char *name) {
    int64_t value = -1;
    const struct lvt_header *header = lvt_headers_find(headers, name);
    return header && lvt_header_integer(header, &value) ? value : -1;
}

static inline bool is_safe(const struct world *world, const struct lvt_delivery *delivery) {
    const struct lvt_properties *properties = &delivery->properties;
    struct lvt_bytes type = delivery->routing_key, id = properties->message_id;
    unsigned char key[LVT_KEY_BYTES];
    if (!(properties->present & LVT_HAS_MESSAGE_ID))
        return true; /* nothing is recorded of it */
    struct lvt_bytes queue = lvt_bytes_of(delivery->queue->name);
    if (properties->present & LVT_HAS_TYPE)
        type = properties->type;
    lvt_event_key(LVT_LITERAL(NAME), queue, type, id, key);
    if (lvt_memory_ledger_has(world->ledger, key))
        return true;
    int64_t made = header_number(&properties->headers, LVT_HEADER_ATTEMPT);
    made = made < 0 ? 0 : made;
    for (size_t i = 0; i < world->confirmed_count; i++) {
        const struct confirmed *confirmed = &world->confirmed[i];
        int64_t least = confirmed->dead || !confirmed->failed || world->copies ? made : made + 1;
        if (confirmed->forwarded && lvt_bytes_is(queue, LVT_OUTGOING_QUEUE))
            least = 0; /* however many tries that took */
        if (lvt_bytes_is(id, confirmed->id) && confirmed->attempt >= least)
            return true;
    }
    return false;
}

static inline void world_ack(void *self, const struct lvt_delivery *delivery) {
    struct world *world = self;
    world->acks++;
    assert_true(is_safe(world, delivery));
    world->broker_port.ack(world->broker_port.self, delivery);
}

static inline void world_requeue(void *self, const struct lvt_delivery *delivery) {
    struct world *world = self;
    world->requeues++;
    world->broker_port.requeue(world->broker_port.self, delivery);
}

static inline void world_publish_port(void *self, struct lvt_publish *publish) {
    struct world *world = self;
    world->broker_port.publish(world->broker_port.self, publish);
}

static inline void world_flush(void *self) {
    struct world *world = self;
    world->broker_port.flush(world->broker_port.self);
}

static inline bool world_live(void *self, const struct lvt_delivery *delivery) {
    struct world *world = self;
    return world->broker_port.live(world->broker_port.self, delivery);
}

static inline void world_published(void *ctx, struct lvt_publish *list) {
    struct world *world = ctx;
    for (const struct lvt_publish *publish = list; publish; publish = publish->next) {
        struct confirmed *entry = &world->confirmed[world->confirmed_count];
        if (publish->result != LVT_PUBLISH_CONFIRMED || world->confirmed_count == 1024)
            continue;
        world->confirmed_count++;
        copy_text(entry->id, sizeof entry->id, publish->properties.message_id);
        const struct lvt_headers *headers = &publish->properties.headers;
        entry->attempt = header_number(headers, LVT_HEADER_ATTEMPT);
        entry->forwarded = lvt_headers_find(headers, LVT_HEADER_DELAYED) != NULL;
        if (entry->forwarded)
            entry->attempt = 0;
        entry->dead = publish->destination.kind == LVT_TO_QUEUE;
        entry->failed = lvt_headers_find(headers, LVT_HEADER_ERROR) != NULL;
    }
    world->engine_sink.published(world->engine_sink.ctx, list);
}

static inline void world_delivered(void *ctx, struct lvt_delivery *list) {
    struct world *world = ctx;
    world->engine_sink.delivered(world->engine_sink.ctx, list);
}

static inline struct query *add_query(struct world *world, struct lvt_tx *tx, void *ctx) {
    struct query *query = calloc(1, sizeof *query);
    assert_non_null(query);
    query->tx = tx;
    query->ctx = ctx;
    *world->queries_last = query;
    world->queries_last = &query->next;
    return query;
}

static inline void world_tx_query(void *self, struct lvt_tx *tx, const struct lvt_sql *sql,
                                  lvt_rows_done *done, void *ctx) {
    struct query *query = add_query(self, tx, ctx);
    query->rows_done = done;
    if (sql->param_count > 0)
        snprintf(query->first_param, sizeof query->first_param, "%.*s", (int)sql->params[0].len,
                 sql->params[0].data ? sql->params[0].data : "");
}

static inline void world_tx_publish(void *self, struct lvt_tx *tx,
                                    const struct lvt_outgoing *outgoing, lvt_rows_done *done,
                                    void *ctx) {
    struct world *world = self;
    assert_true(outgoing->id.len > 0);
    world->outbox_rows++;
    world->ledger_port.tx_publish(world->ledger_port.self, tx, outgoing, done, ctx);
}

static inline void world_outbox_done(void *self, struct lvt_outbox_row *row) {
    struct world *world = self;
    world->outbox_results[row->result]++;
    world->ledger_port.outbox_done(world->ledger_port.self, row);
}

static inline void world_tx_rollback(void *self, struct lvt_tx *tx) {
    struct world *world = self;
    struct query **at = &world->queries;
    while (*at) {
        struct query *query = *at;
        if (query->tx != tx) {
            at = &query->next;
            continue;
        }
        *at = query->next;
        free(query);
    }
    world->queries_last = at;
    world->ledger_port.tx_rollback(world->ledger_port.self, tx);
}

static inline void world_tx_commit(void *self, struct lvt_tx *tx, lvt_tx_done *done, void *ctx) {
    struct world *world = self;
    world->commits++;
    if (world->commit_failures > 0) {
        world->commit_failures--;
        add_query(world, tx, ctx)->tx_done = done;
        return;
    }
    world->ledger_port.tx_commit(world->ledger_port.self, tx, done, ctx);
}

static inline bool world_ready(void *self) {
    struct world *world = self;
    return world->ledger_port.ready(world->ledger_port.self);
}

static inline void world_claim(void *self, struct lvt_claim *list) {
    struct world *world = self;
    world->ledger_port.claim(world->ledger_port.self, list);
}

static inline void world_record(void *self, struct lvt_claim *list) {
    struct world *world = self;
    world->ledger_port.record(world->ledger_port.self, list);
}

static inline void world_release(void *self, struct lvt_claim *claim) {
    struct world *world = self;
    world->ledger_port.release(world->ledger_port.self, claim);
}

static inline struct lvt_tx *world_tx_begin(void *self, struct lvt_claim *claim, lvt_tx_done *done,
                                            void *ctx) {
    struct world *world = self;
    return world->ledger_port.tx_begin(world->ledger_port.self, claim, done, ctx);
}

static inline void world_tx_invalidate(void *self, struct lvt_tx *tx, struct lvt_bytes pattern,
                                       lvt_rows_done *done, void *ctx) {
    struct world *world = self;
    world->ledger_port.tx_invalidate(world->ledger_port.self, tx, pattern, done, ctx);
}

static inline void world_invalidated(void *self, int64_t number) {
    struct world *world = self;
    world->invalidated++;
    world->ledger_port.invalidated(world->ledger_port.self, number);
}

static inline void world_cache_command(void *self, const struct lvt_bytes *argv, size_t argc,
                                       lvt_reply_done *done, void *ctx) {
    struct world *world = self;
    world->cache_port.command(world->cache_port.self, argv, argc, done, ctx);
}

static inline void world_cache_invalidate(void *self, struct lvt_bytes pattern,
                                          lvt_invalidate_done *done, void *ctx) {
    struct world *world = self;
    world->cache_invalidations++;
    world->cache_port.invalidate(world->cache_port.self, pattern, done, ctx);
}

static inline const char *one_name(void *self, size_t column) {
    (void)self;
    (void)column;
    return "one";
}

static inline enum lvt_column_kind one_kind(void *self, size_t column) {
    (void)self;
    (void)column;
    return LVT_COLUMN_INTEGER;
}

static inline bool one_cell(void *self, size_t row, size_t column, struct lvt_bytes *ret_text) {
    (void)self;
    (void)row;
    (void)column;
    *ret_text = LVT_LITERAL("1");
    return true;
}

/* The test's database answers everything that it was asked before this call. */
static inline void answer_queries(struct world *world) {
    const struct lvt_rows rows = {NULL, 1, 1, 1, one_name, one_kind, one_cell};
    struct lvt_sql_error error = {.text = "the database says no"};
    size_t left = 0;
    snprintf(error.sqlstate, sizeof error.sqlstate, "%s", world->sqlstate);
    for (const struct query *query = world->queries; query; query = query->next)
        left++;
    for (; left > 0 && world->queries; left--) {
        struct query query = *world->queries;
        free(world->queries);
        world->queries = query.next;
        if (!world->queries)
            world->queries_last = &world->queries;
        if (query.tx_done) {
            world->ledger_port.tx_rollback(world->ledger_port.self, query.tx);
            query.tx_done(query.ctx, world->commit_result, &error);
        } else {
            enum lvt_answer answer = world->query_answer;
            query.rows_done(query.ctx, answer, answer == LVT_ANSWER_OK ? &rows : NULL,
                            answer == LVT_ANSWER_ERROR ? &error : NULL);
        }
    }
}

/* ---- the world ---- */

static inline struct world *world_new(void) {
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->now_ms = START_MS;
    world->clock = (struct lvt_clock){world, world_now, world_wall, world_random, &world->timers};
    world->log = (struct lvt_log){world_log, world, LVT_DEBUG};
    world->queries_last = &world->queries;
    world->pool = 4;
    world->stats = lvt_stats_new(world->now_ms);
    assert_non_null(world->stats);
    return world;
}

/* Its options may be changed until handler_add. */
static inline struct script *handler_new(struct world *world, const char *name) {
    struct script *script = calloc(1, sizeof *script);
    struct lvt_handler *handler = calloc(1, sizeof *handler);
    assert_true(script && handler);
    *script = (struct script){.world = world, .handler = handler};
    handler->name = strdup(name);
    handler->runtime = &runtime;
    handler->runtime_self = script;
    handler->options.exchange = strdup(EXCHANGE);
    handler->options.dead_letter = strdup(DEAD);
    handler->options.prefetch = 200;
    handler->options.retry =
        (struct lvt_retry_policy){.max = 3, .base_ms = 1000, .factor = 2, .cap_ms = 30000};
    handler->options.timeout_ms = 30000;
    handler->options.concurrency = 100;
    return script;
}

static inline struct script *handler_add(struct world *world, struct script *script) {
    struct leveret_error err = {0};
    assert_int_equal(lvt_routes_add(&world->routes, script->handler, &err), LEVERET_OK);
    world->scripts[world->script_count++] = script;
    return script;
}

/* Puts a script in the place of another (NULL: adds it; next NULL: removes the other). */
static inline enum leveret_code handler_change(struct world *world, struct script *old,
                                               struct script *next, struct leveret_error *err) {
    const struct lvt_handler_change change = {old ? old->handler : NULL,
                                              next ? next->handler : NULL};
    struct leveret_error none;
    enum leveret_code code = lvt_engine_change_handlers(world->engine, &change, 1, err);
    if (code != LEVERET_OK)
        return code;
    for (size_t i = 0; old && i < world->script_count; i++)
        if (world->scripts[i] == old)
            world->scripts[i] = world->scripts[--world->script_count];
    if (next)
        world->scripts[world->script_count++] = next;
    assert_int_equal(lvt_memory_broker_update(world->broker, &none), LEVERET_OK);
    return code;
}

static inline void world_attach(struct world *world) {
    lvt_engine_attach(world->engine,
                      (struct lvt_broker_port){world, world_ack, world_requeue, world_publish_port,
                                               world_flush, world_live},
                      (struct lvt_ledger_port){.self = world,
                                               .ready = world_ready,
                                               .claim = world_claim,
                                               .record = world_record,
                                               .release = world_release,
                                               .tx_begin = world_tx_begin,
                                               .tx_query = world_tx_query,
                                               .tx_commit = world_tx_commit,
                                               .tx_rollback = world_tx_rollback,
                                               .tx_invalidate = world_tx_invalidate,
                                               .invalidated = world_invalidated,
                                               .tx_publish = world_tx_publish,
                                               .outbox_done = world_outbox_done},
                      (struct lvt_cache_port){world, world_cache_command, world_cache_invalidate},
                      (struct lvt_http_port){0});
}

static inline void world_open(struct world *world) {
    struct leveret_error err = {0};
    const struct lvt_engine_options options = {.name = NAME,
                                               .clock = world->clock,
                                               .routes = &world->routes,
                                               .log = &world->log,
                                               .stats = world->stats,
                                               .max_body_bytes = 1 << 20,
                                               .exchange = EXCHANGE,
                                               .max_delay_ms = 86400000,
                                               .max_attempts = 100,
                                               .pool = world->pool,
                                               .blackbox = world->box,
                                               .charges = world->charges,
                                               .crash_limit = 2};
    assert_int_equal(lvt_engine_new(&options, &world->engine, &err), LEVERET_OK);
    world->engine_sink = lvt_engine_broker_sink(world->engine);
    const struct lvt_memory_broker_options broker = {
        &world->routes, world->clock, {world, world_delivered, world_published}};
    assert_int_equal(lvt_memory_broker_new(&broker, &world->broker, &err), LEVERET_OK);
    assert_int_equal(
        lvt_memory_ledger_new(lvt_engine_ledger_sink(world->engine), &world->ledger, &err),
        LEVERET_OK);
    assert_int_equal(lvt_memory_cache_new(&world->cache, &err), LEVERET_OK);
    world->broker_port = lvt_memory_broker_port(world->broker);
    world->ledger_port = lvt_memory_ledger_port(world->ledger);
    world->cache_port = lvt_memory_cache_port(world->cache);
    world_attach(world);
}

/* One handler with the defaults, ready to go. */
static inline struct script *world_one(struct world *world, const char *name) {
    struct script *script = handler_add(world, handler_new(world, name));
    world_open(world);
    return script;
}

static inline bool turn(struct world *world) {
    lvt_memory_broker_poll(world->broker);
    lvt_memory_ledger_poll(world->ledger);
    lvt_memory_cache_poll(world->cache);
    if (!world->hold_queries)
        answer_queries(world);
    bool more = lvt_engine_pump(world->engine);
    return more || lvt_memory_broker_pending(world->broker) ||
           lvt_memory_ledger_pending(world->ledger) || lvt_memory_cache_pending(world->cache) ||
           (world->queries && !world->hold_queries);
}

/* All that can happen without time going by. */
static inline void go(struct world *world) {
    unsigned turns = 0;
    while (turn(world))
        assert_true(++turns < 20000);
}

static inline void advance(struct world *world, uint64_t ms) {
    uint64_t end_ms = world->now_ms + ms, due_ms;
    go(world);
    while (lvt_timers_next(&world->timers, &due_ms) && due_ms <= end_ms) {
        if (due_ms > world->now_ms)
            world->now_ms = due_ms;
        lvt_timers_run(&world->timers, world->now_ms);
        go(world);
    }
    world->now_ms = end_ms;
    go(world);
}

/* Nothing may be left over, wherever the test stopped. */
static inline void world_free(struct world *world) {
    struct lvt_memory_broker_status broker;
    struct lvt_memory_ledger_status ledger;
    if (!world->ended) {
        lvt_engine_drain(world->engine);
        lvt_engine_abandon(world->engine);
    }
    lvt_engine_free(world->engine);
    lvt_memory_broker_status(world->broker, &broker);
    lvt_memory_ledger_status(world->ledger, &ledger);
    assert_int_equal(broker.unknown_acks, 0);
    assert_int_equal(ledger.held + ledger.asked + ledger.recording, 0);
    assert_int_equal(ledger.transactions, 0);
    for (size_t i = 0; i < world->script_count; i++)
        assert_int_equal(world->scripts[i]->running, 0);
    lvt_memory_broker_free(world->broker);
    lvt_memory_ledger_free(world->ledger);
    lvt_memory_cache_free(world->cache);
    assert_int_equal(world->timers.count, 0);
    lvt_timers_free(&world->timers);
    lvt_routes_free(&world->routes);
    lvt_stats_free(world->stats);
    free(world);
}

static inline size_t publish_message(struct world *world, const char *type,
                                     const struct lvt_properties *properties, const char *body) {
    size_t queues = 0;
    assert_int_equal(lvt_memory_broker_publish(world->broker, LVT_LITERAL(EXCHANGE),
                                               lvt_bytes_of(type), properties, lvt_bytes_of(body),
                                               &queues),
                     LEVERET_OK);
    return queues;
}

/* An event of that type; the message's id is `id`, when it is not NULL. */
static inline void publish_event(struct world *world, const char *type, const char *id,
                                 struct lvt_headers headers) {
    char body[128];
    struct lvt_properties properties = {.headers = headers};
    properties.present = LVT_HAS_TYPE | (headers.count ? LVT_HAS_HEADERS : 0);
    properties.type = lvt_bytes_of(type);
    if (id) {
        properties.present |= LVT_HAS_MESSAGE_ID;
        properties.message_id = lvt_bytes_of(id);
    }
    snprintf(body, sizeof body, "{\"event\":\"%s\",\"payload\":{\"n\":1}}", type);
    assert_int_equal(publish_message(world, type, &properties, body), 1);
}

static inline void publish(struct world *world, const char *type, const char *id) {
    publish_event(world, type, id, (struct lvt_headers){0});
}

static inline uint64_t counted(const struct world *world, enum lvt_outcome outcome) {
    return world->stats->outcomes[outcome];
}

static inline const struct lvt_memory_message *first_dead(const struct world *world) {
    const struct lvt_memory_message *dead = lvt_memory_broker_dead_next(world->broker, NULL);
    assert_non_null(dead);
    return dead;
}

static inline void assert_header(const struct lvt_headers *headers, const char *name,
                                 const char *value) {
    const struct lvt_header *header = lvt_headers_find(headers, name);
    assert_non_null(header);
    assert_int_equal(header->kind, LVT_HEADER_STRING);
    assert_int_equal(header->value.bytes.len, strlen(value));
    assert_memory_equal(header->value.bytes.data, value, strlen(value));
}

/* Everything has found its end: nothing waits anywhere, and no claim is left. */
static inline void assert_settled(const struct world *world) {
    struct lvt_memory_ledger_status ledger;
    lvt_memory_ledger_status(world->ledger, &ledger);
    assert_true(lvt_memory_broker_idle(world->broker));
    assert_int_equal(lvt_engine_in_flight(world->engine), 0);
    assert_int_equal(ledger.held, 0);
    assert_int_equal(ledger.transactions, 0);
}

/* ---- bodies that use the database ---- */

static inline void rows_done(void *ctx, enum lvt_answer answer, const struct lvt_rows *rows,
                             const struct lvt_sql_error *error) {
    struct lvt_run *run = ctx;
    struct lvt_verdict verdict = {.kind = LVT_VERDICT_DONE, .after_ms = -1};
    assert_int_not_equal(answer, LVT_ANSWER_OUTAGE);
    if (answer == LVT_ANSWER_ERROR) {
        verdict.kind = LVT_VERDICT_RETRY;
        verdict.reason = lvt_bytes_of(error->text);
        memcpy(verdict.sqlstate, error->sqlstate, sizeof verdict.sqlstate);
    } else {
        assert_int_equal(rows->row_count, 1);
    }
    finish_with(run, &verdict);
}

static inline void query(struct lvt_run *run, lvt_rows_done *done) {
    const struct lvt_bytes params[] = {LVT_LITERAL("one"), {NULL, 0}};
    const struct lvt_sql sql = {LVT_LITERAL("select $1, $2"), params, 2};
    lvt_effect_query(run, &sql, done, run);
}

static inline void query_once(struct script *script, struct lvt_run *run) {
    (void)script;
    query(run, rows_done);
}

static inline void hold_rows(void *ctx, enum lvt_answer answer, const struct lvt_rows *rows,
                             const struct lvt_sql_error *error) {
    (void)rows;
    (void)error;
    assert_int_equal(answer, LVT_ANSWER_OK);
    hold(script_of(ctx), ctx);
}

/* Has its transaction open when the test gets hold of it. */
static inline void query_and_hold(struct script *script, struct lvt_run *run) {
    (void)script;
    query(run, hold_rows);
}

#endif
