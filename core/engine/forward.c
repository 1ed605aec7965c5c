#include "engine/forward.h"

#include <stdlib.h>

#include "base/container.h"
#include "engine/outgoing.h"
#include "engine/state.h"
#include "event/carry.h"

#define PREFIX "leveret-"
#define CONCURRENCY 500
#define ADDED_MAX 1

static const struct lvt_retry_policy retry = {
    .max = 5, .base_ms = 1000, .factor = 2, .cap_ms = 30000};

static struct lvt_bytes text_header(const struct lvt_headers *headers, const char *name) {
    const struct lvt_header *header = lvt_headers_find(headers, name);
    bool text = header && header->kind == LVT_HEADER_STRING;
    return text ? header->value.bytes : lvt_bytes(NULL, 0);
}

static bool goes_along(struct lvt_bytes name) {
    size_t len = sizeof PREFIX - 1;
    return lvt_bytes_is(name, LVT_HEADER_MAX_ATTEMPTS) || name.len < len ||
           memcmp(name.data, PREFIX, len) != 0;
}

/* The message as it would have been published without a delay, and a note that it has been served.
 */
static bool build(struct lvt_event *event) {
    struct lvt_delivery *delivery = event->delivery;
    const struct lvt_headers *from = &delivery->properties.headers;
    struct lvt_publish publish = {
        .destination = {.kind = LVT_TO_EXCHANGE,
                        .name = text_header(from, LVT_HEADER_TO_EXCHANGE),
                        .routing_key = text_header(from, LVT_HEADER_TO_ROUTING_KEY)},
        .body = delivery->body,
    };
    size_t kept = 0;
    int64_t ttl_ms;
    if (!lvt_properties_carry(&delivery->properties, ADDED_MAX, &delivery->arena,
                              &publish.properties))
        return false;
    struct lvt_headers *to = &publish.properties.headers;
    for (size_t i = 0; i < to->count; i++)
        if (goes_along(to->items[i].name))
            to->items[kept++] = to->items[i];
    to->count = kept;
    lvt_headers_add_integer(to, LVT_HEADER_DELAYED, 1);
    event->publish = publish;
    if (!lvt_header_integer(lvt_headers_find(from, LVT_HEADER_TTL), &ttl_ms))
        return true;
    return lvt_outgoing_expire(&event->publish.properties, &delivery->arena, (uint64_t)ttl_ms);
}

static void finish(struct lvt_event *event, enum lvt_verdict_kind kind, const char *reason) {
    const struct lvt_verdict verdict = {
        .kind = kind, .reason = lvt_bytes_of(reason), .after_ms = -1};
    lvt_run_finish(event->run, &verdict);
}

static void published(struct lvt_engine *engine, struct lvt_publish *publish) {
    struct lvt_event *event = LVT_CONTAINER_OF(publish, struct lvt_event, publish);
    event->publishing = false;
    lvt_stats_count_published(engine->options.stats, event->type, publish->result);
    if (event->abandoned)
        lvt_event_forget(engine, event);
    else if (publish->result == LVT_PUBLISH_CONFIRMED)
        finish(event, LVT_VERDICT_DONE, NULL);
    else if (publish->result == LVT_PUBLISH_DROPPED)
        finish(event, LVT_VERDICT_OUTAGE, publish->reason);
    else
        finish(event, LVT_VERDICT_RETRY, publish->reason);
}

static void start(void *self, struct lvt_run *run) {
    struct lvt_event *event = run->event;
    struct lvt_engine *engine = run->engine;
    const struct lvt_headers *headers = &event->delivery->properties.headers;
    (void)self;
    if (!text_header(headers, LVT_HEADER_TO_EXCHANGE).data ||
        !text_header(headers, LVT_HEADER_TO_ROUTING_KEY).data) {
        finish(event, LVT_VERDICT_REJECT,
               "it does not say where it is to go (" LVT_HEADER_TO_EXCHANGE
               ", " LVT_HEADER_TO_ROUTING_KEY ")");
        return;
    }
    if (!build(event)) {
        finish(event, LVT_VERDICT_OUTAGE, "out of memory");
        return;
    }
    event->publishing = true;
    event->publish.answered = published;
    engine->broker.publish(engine->broker.self, &event->publish);
}

/* The engine keeps the event until its publish is answered. */
static void stop(void *self, struct lvt_run *run) {
    (void)self;
    (void)run;
}

static void destroy(void *self) {
    (void)self;
}

static const struct lvt_runtime runtime = {start, stop, destroy};

/* A list of one. */
static bool set_events(struct lvt_strings *events, const char *pattern) {
    events->items = calloc(1, sizeof *events->items);
    char *copy = strdup(pattern);
    if (!events->items || !copy) {
        free(copy);
        return false;
    }
    events->items[events->count++] = copy;
    return true;
}

/* Nothing that a broker sees of the queue may depend on the configuration: all workers share it. */
static enum leveret_code set_options(struct lvt_handler *handler, const struct lvt_config *config,
                                     struct leveret_error *err) {
    struct lvt_handler_options *options = &handler->options;
    enum leveret_code code = lvt_handler_options_init(options, config, err);
    if (code != LEVERET_OK)
        return code;
    options->queue_type = LVT_QUORUM;
    options->bind_none = true;
    options->concurrency = CONCURRENCY;
    options->prefetch = 2 * CONCURRENCY;
    options->retry = retry;
    options->queue = strdup(LVT_OUTGOING_QUEUE);
    free(options->dead_letter);
    options->dead_letter = strdup(LVT_UNDELIVERED_QUEUE);
    handler->name = strdup(LVT_OUTGOING_QUEUE);
    if (!options->queue || !options->dead_letter || !handler->name ||
        !set_events(&options->events, "#"))
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    return LEVERET_OK;
}

enum leveret_code lvt_forward_add(const struct lvt_config *config, struct lvt_routes *routes,
                                  struct leveret_error *err) {
    struct lvt_handler *handler = calloc(1, sizeof *handler);
    if (!handler)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    handler->runtime = &runtime;
    handler->forwards = true;
    enum leveret_code code = set_options(handler, config, err);
    if (code == LEVERET_OK)
        code = lvt_routes_add(routes, handler, err);
    if (code != LEVERET_OK)
        lvt_handler_free(handler);
    return code;
}
