/* The first step of the engine, over a route with handlers for patterns: every delivery becomes an
 * event with a handler, or a dead letter with a reason. The input is the message id, a header's
 * name, its value, and the body, a line each but for the last. */
#include "engine/message.h"
#include "engine/state.h"
#include "event/json.h"
#include "fuzz.h"

static struct lvt_timers timers;

static uint64_t now_ms(void *self) {
    (void)self;
    return 1000;
}

static int64_t wall_ms(void *self) {
    (void)self;
    return 1790000000000;
}

static uint32_t chance(void *self) {
    (void)self;
    return 0;
}

static void release(void *self, struct lvt_claim *claim) {
    (void)self, (void)claim;
}

static struct lvt_handler *handler_new(const char *name, const char *id) {
    struct lvt_handler *handler = fuzz_alloc(sizeof *handler);
    handler->name = strdup(name);
    handler->options.queue = strdup("q");
    handler->options.exchange = strdup("e");
    handler->options.dead_letter = strdup("d");
    handler->options.id = strdup(id);
    handler->options.concurrency = 1;
    return handler;
}

static struct lvt_engine *engine_new(void) {
    static struct lvt_routes routes;
    static const struct lvt_log log = {.level = LVT_ERROR + 1};
    struct lvt_engine *engine;
    struct leveret_error err;
    FUZZ_CHECK(lvt_routes_add(&routes, handler_new("a.*", "payload.id"), &err) == LEVERET_OK);
    FUZZ_CHECK(lvt_routes_add(&routes, handler_new("b.#", "hash"), &err) == LEVERET_OK);
    const struct lvt_engine_options options = {.name = "fuzz",
                                               .clock = {NULL, now_ms, wall_ms, chance, &timers},
                                               .routes = &routes,
                                               .log = &log,
                                               .stats = lvt_stats_new(0),
                                               .max_body_bytes = 1 << 20,
                                               .pool = 1};
    FUZZ_CHECK(lvt_engine_new(&options, &engine, &err) == LEVERET_OK);
    engine->ledger.release = release;
    return engine;
}

static void check_event(struct lvt_event *event) {
    struct leveret_error err;
    if (event->stage == LVT_STAGE_SETTLING)
        FUZZ_CHECK(event->verdict.kind == LVT_VERDICT_REJECT && event->verdict.reason.len > 0);
    else
        FUZZ_CHECK(event->handler && event->attempt >= 1 &&
                   lvt_json_validate(event->payload, LVT_NESTING_MAX, &err) == LEVERET_OK);
    FUZZ_CHECK(lvt_message_build(event, event->attempt, LVT_STORY_FULL, 0) == LEVERET_OK);
    FUZZ_CHECK(lvt_bytes_equal(event->publish.body, event->delivery->body));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct lvt_engine *engine;
    if (!engine)
        engine = engine_new();
    struct lvt_bytes rest = lvt_bytes((const char *)data, size);
    struct lvt_delivery *delivery = lvt_delivery_new(size + 512);
    FUZZ_CHECK(delivery);
    delivery->queue = engine->options.routes->queues[0];
    delivery->properties.present = LVT_HAS_MESSAGE_ID | LVT_HAS_HEADERS;
    delivery->properties.message_id = fuzz_line(&rest);
    struct lvt_bytes name = fuzz_line(&rest), value = fuzz_line(&rest);
    struct lvt_header header = {.name = name, .kind = LVT_HEADER_STRING, .value.bytes = value};
    delivery->properties.headers = (struct lvt_headers){&header, 1};
    delivery->exchange = delivery->routing_key = LVT_LITERAL("a.b");
    delivery->body = rest;
    struct lvt_event *event = lvt_decode(engine, delivery);
    FUZZ_CHECK(event);
    check_event(event);
    lvt_event_forget(engine, event);
    return 0;
}
