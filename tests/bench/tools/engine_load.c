/* One fixed workload for counting instructions: the engine with ports in memory and a Lua handler,
 * EVENTS events in batches, on a clock that stands still. The count covers `workload` alone.
 *
 * usage: engine_load HANDLER.lua */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/config.h"
#include "engine/engine.h"
#include "memory/memory_broker.h"
#include "memory/memory_cache.h"
#include "memory/memory_ledger.h"
#include "runtime/load.h"

#define EVENTS 20000
#define BATCH 500
#define NOW_MS 1000000

struct bench {
    struct lvt_engine *engine;
    struct lvt_memory_broker *broker;
    struct lvt_memory_ledger *ledger;
    struct lvt_memory_cache *cache;
    const char *queue;
};

static void must(enum leveret_code code, const struct leveret_error *err) {
    if (code == LEVERET_OK)
        return;
    fprintf(stderr, "engine_load: %s\n", err->text);
    exit(1);
}

static uint64_t now_ms(void *self) {
    (void)self;
    return NOW_MS;
}

static int64_t wall_ms(void *self) {
    (void)self;
    return NOW_MS;
}

static uint32_t no_random(void *self) {
    (void)self;
    return 0;
}

static void log_nothing(void *ctx, enum lvt_level level, const char *text,
                        const struct lvt_field *fields, size_t count) {
    (void)ctx, (void)level, (void)text, (void)fields, (void)count;
}

static void publish_batch(struct bench *bench, unsigned first) {
    char body[512], id[40];
    for (unsigned i = first; i < first + BATCH; i++) {
        size_t queues;
        struct lvt_properties properties = {.present = LVT_HAS_MESSAGE_ID};
        snprintf(id, sizeof id, "%08x-0000-4000-8000-%012x", i * 2654435761u, i);
        int len = snprintf(body, sizeof body,
                           "{\"event\":\"ticket.created\",\"payload\":{\"id\":\"%s\",\"title\":"
                           "\"Printer on fire\",\"ownerId\":\"owner-%u\",\"description\":\"%0150d\""
                           "}}",
                           id, i % 10000, 0);
        properties.message_id = lvt_bytes_of(id);
        if (lvt_memory_broker_publish(bench->broker, lvt_bytes("", 0), lvt_bytes_of(bench->queue),
                                      &properties, lvt_bytes(body, (size_t)len),
                                      &queues) != LEVERET_OK)
            exit(1);
    }
}

/* Not inlined and not static: the counter finds it by its name. */
__attribute__((noinline)) void workload(struct bench *bench);

/* Handles what waits. */
void workload(struct bench *bench) {
    while (!lvt_memory_broker_idle(bench->broker)) {
        lvt_memory_broker_poll(bench->broker);
        lvt_memory_ledger_poll(bench->ledger);
        lvt_memory_cache_poll(bench->cache);
        (void)lvt_engine_pump(bench->engine);
    }
}

static void no_http(void *self, const struct lvt_http_request *request, lvt_http_done *done,
                    void *ctx) {
    (void)self, (void)request;
    done(ctx, NULL, "there is no HTTP here");
}

/* The signal that watches Lua's time comes by the processor's time, of which a counted instruction
 * takes fifty times as much: it would be counted, too, and not the same each time. */
static void stop_the_watch(void) {
    sigset_t watch;
    sigemptyset(&watch);
    sigaddset(&watch, SIGURG);
    pthread_sigmask(SIG_BLOCK, &watch, NULL);
}

static void make_ports(struct bench *bench, const struct lvt_routes *routes,
                       struct lvt_clock clock) {
    struct leveret_error err;
    const struct lvt_memory_broker_options broker = {routes, clock,
                                                     lvt_engine_broker_sink(bench->engine)};
    must(lvt_memory_broker_new(&broker, &bench->broker, &err), &err);
    must(lvt_memory_ledger_new(lvt_engine_ledger_sink(bench->engine), &bench->ledger, &err), &err);
    must(lvt_memory_cache_new(&bench->cache, &err), &err);
    lvt_engine_attach(bench->engine, lvt_memory_broker_port(bench->broker),
                      lvt_memory_ledger_port(bench->ledger), lvt_memory_cache_port(bench->cache),
                      (struct lvt_http_port){NULL, no_http});
}

int main(int argc, char **argv) {
    const struct lvt_log log = {log_nothing, NULL, LVT_WARN};
    struct lvt_timers timers = {0};
    struct leveret_error err;
    struct lvt_config config;
    struct lvt_routes routes = {0};
    struct lvt_handler *handler;
    struct bench bench = {0};
    if (argc != 2) {
        fprintf(stderr, "usage: %s HANDLER.lua\n", argv[0]);
        return 64;
    }
    must(lvt_config_init(&config, &err), &err);
    must(lvt_handler_load(argv[1], &config, &log, &handler, &err), &err);
    stop_the_watch();
    must(lvt_routes_add(&routes, handler, &err), &err);
    bench.queue = handler->queue->name;
    const struct lvt_clock clock = {NULL, now_ms, wall_ms, no_random, &timers};
    const struct lvt_engine_options options = {.name = config.name,
                                               .clock = clock,
                                               .routes = &routes,
                                               .log = &log,
                                               .stats = lvt_stats_new(NOW_MS),
                                               .max_body_bytes = config.max_body_bytes,
                                               .pool = config.postgres.pool};
    must(lvt_engine_new(&options, &bench.engine, &err), &err);
    make_ports(&bench, &routes, clock);
    for (unsigned first = 0; first < EVENTS; first += BATCH) {
        publish_batch(&bench, first);
        workload(&bench);
    }
    uint64_t processed = options.stats->outcomes[LVT_OUTCOME_PROCESSED];
    printf("%" PRIu64 " processed\n", processed);
    /* It ends here: nothing is freed, for nothing more is measured. */
    return processed == EVENTS ? 0 : 1;
}
