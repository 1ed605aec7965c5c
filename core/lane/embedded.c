#include "lane/embedded.h"

#include <stdlib.h>

#include "engine/engine.h"
#include "engine/forward.h"
#include "http/http.h"
#include "lane/loop.h"
#include "memory/memory_broker.h"
#include "memory/memory_cache.h"
#include "memory/memory_ledger.h"

#define READ_BYTES 65536
/* Read no more while this many events are in the broker. */
#define BACKLOG_MAX 10000

struct embedded {
    const struct lvt_embedded_options *options;
    struct lvt_loop loop;
    struct lvt_engine *engine;
    struct lvt_stats *stats;
    struct lvt_memory_broker *broker;
    struct lvt_memory_ledger *ledger;
    struct lvt_memory_cache *cache;
    struct lvt_http *http;
    uv_async_t wake;
    uv_fs_t read;
    char chunk[READ_BYTES];
    struct lvt_buffer line; /* begun, and not ended yet */
    size_t line_bytes;      /* of the line so far, also those that found no room */
    bool reading, input_over, closing;
    struct leveret_error failure; /* code 0: none */
};

/* Each exchange that a queue is bound to gets the event once, as if it had been published there. */
static enum leveret_code publish_to_exchanges(struct embedded *embedded, struct lvt_bytes type,
                                              struct lvt_bytes line, size_t *ret_taken) {
    const struct lvt_routes *routes = embedded->options->routes;
    const struct lvt_properties properties = {0};
    enum leveret_code code = LEVERET_OK;
    for (size_t i = 0; i < routes->queue_count && code == LEVERET_OK; i++) {
        const char *exchange = routes->queues[i]->exchange;
        bool done = false;
        for (size_t j = 0; j < i; j++)
            done |= strcmp(routes->queues[j]->exchange, exchange) == 0;
        size_t taken = 0;
        if (!done)
            code = lvt_memory_broker_publish(embedded->broker, lvt_bytes_of(exchange), type,
                                             &properties, line, &taken);
        *ret_taken += taken;
    }
    return code;
}

/* To the queues that are bound to the event's type; else to the first one, whose way to the dead
 * letters tells what is wrong with the event. */
static enum leveret_code publish_line(struct embedded *embedded, struct lvt_bytes line,
                                      struct leveret_error *err) {
    const struct lvt_routes *routes = embedded->options->routes;
    const struct lvt_properties properties = {0};
    struct lvt_envelope envelope;
    struct leveret_error malformed;
    size_t taken = 0;
    struct lvt_delivery *probe = lvt_delivery_new(line.len);
    if (!probe)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for an event");
    probe->body = line;
    enum leveret_code code = LEVERET_OK;
    if (lvt_envelope_read(probe, LVT_ENVELOPE_AUTO, &envelope, &malformed) == LEVERET_OK)
        code = publish_to_exchanges(embedded, envelope.type, line, &taken);
    lvt_delivery_free(probe);
    if (taken == 0 && code == LEVERET_OK)
        code = lvt_memory_broker_publish(embedded->broker, lvt_bytes("", 0),
                                         lvt_bytes_of(routes->queues[0]->name), &properties, line,
                                         &taken);
    if (code != LEVERET_OK)
        return leveret_fail(err, code, "an event could not be kept: %s", leveret_code_text(code));
    return LEVERET_OK;
}

static void end_line(struct embedded *embedded) {
    struct lvt_buffer *line = &embedded->line;
    if (line->failed && embedded->line_bytes <= line->max)
        leveret_fail(&embedded->failure, LEVERET_NO_MEMORY, "out of memory for a line of %zu bytes",
                     embedded->line_bytes);
    else if (line->failed)
        lvt_logf(embedded->options->log, LVT_ERROR,
                 "a line of over %zu bytes was passed over: max_body_bytes is %llu", line->max,
                 (unsigned long long)embedded->options->config->max_body_bytes);
    else if (line->len > 0 && embedded->failure.code == LEVERET_OK)
        (void)publish_line(embedded, lvt_bytes(line->data, line->len), &embedded->failure);
    lvt_buffer_clear(line);
    embedded->line_bytes = 0;
}

static void take(struct embedded *embedded, struct lvt_bytes bytes) {
    while (bytes.len > 0) {
        const char *newline = memchr(bytes.data, '\n', bytes.len);
        size_t len = newline ? (size_t)(newline - bytes.data) : bytes.len;
        lvt_buffer_append(&embedded->line, bytes.data, len);
        embedded->line_bytes += len;
        if (newline)
            end_line(embedded);
        len += newline ? 1 : 0;
        bytes = lvt_bytes(bytes.data + len, bytes.len - len);
    }
}

static void read_done(uv_fs_t *request) {
    struct embedded *embedded = request->data;
    ssize_t count = request->result;
    uv_fs_req_cleanup(request);
    embedded->reading = false;
    if (count > 0) {
        take(embedded, lvt_bytes(embedded->chunk, (size_t)count));
        return;
    }
    if (count == UV_EINTR)
        return;
    if (count < 0)
        leveret_fail(&embedded->failure, LEVERET_SYSTEM, "cannot read the events: %s",
                     uv_strerror((int)count));
    end_line(embedded);
    embedded->input_over = true;
}

static void read_more(struct embedded *embedded) {
    uv_buf_t buffer = uv_buf_init(embedded->chunk, READ_BYTES);
    embedded->read.data = embedded;
    embedded->reading = uv_fs_read(&embedded->loop.uv, &embedded->read, embedded->options->input,
                                   &buffer, 1, -1, read_done) == 0;
    if (!embedded->reading)
        embedded->input_over = true;
}

static void woke(uv_async_t *wake) {
    (void)wake; /* the pump before the next sleep does what there is to do */
}

static void wake_loop(void *ctx) {
    struct embedded *embedded = ctx;
    uv_async_send(&embedded->wake);
}

static void http_closed(void *ctx) {
    struct embedded *embedded = ctx;
    uv_close((uv_handle_t *)&embedded->wake, NULL);
    lvt_loop_close(&embedded->loop);
}

static void close_all(struct embedded *embedded) {
    embedded->closing = true;
    lvt_engine_drain(embedded->engine);
    lvt_engine_abandon(embedded->engine);
    lvt_http_close(embedded->http, http_closed, embedded);
}

static bool pump(void *ctx) {
    struct embedded *embedded = ctx;
    if (embedded->closing)
        return false;
    lvt_memory_broker_poll(embedded->broker);
    lvt_memory_ledger_poll(embedded->ledger);
    lvt_memory_cache_poll(embedded->cache);
    bool more = lvt_engine_pump(embedded->engine);
    more |= lvt_memory_broker_pending(embedded->broker) ||
            lvt_memory_ledger_pending(embedded->ledger) ||
            lvt_memory_cache_pending(embedded->cache);
    if (!embedded->input_over && !embedded->reading &&
        lvt_memory_broker_count(embedded->broker) < BACKLOG_MAX)
        read_more(embedded);
    bool idle = embedded->input_over && !more && lvt_memory_broker_idle(embedded->broker);
    if (idle || embedded->failure.code != LEVERET_OK)
        close_all(embedded);
    return more;
}

static enum leveret_code make_ports(struct embedded *embedded, struct leveret_error *err) {
    const struct lvt_embedded_options *options = embedded->options;
    const struct lvt_engine_options engine = {.name = options->config->name,
                                              .clock = embedded->loop.clock,
                                              .routes = options->routes,
                                              .log = options->log,
                                              .stats = embedded->stats,
                                              .max_body_bytes = options->config->max_body_bytes,
                                              .exchange = options->config->rabbitmq.exchange,
                                              .max_delay_ms = options->config->limits.max_delay_ms,
                                              .max_attempts = options->config->limits.max_attempts,
                                              .pool = options->config->postgres.pool,
                                              .wake = wake_loop,
                                              .wake_ctx = embedded};
    enum leveret_code code = lvt_forward_add(options->config, options->routes, err);
    if (code == LEVERET_OK)
        code = lvt_engine_new(&engine, &embedded->engine, err);
    if (code != LEVERET_OK)
        return code;
    const struct lvt_memory_broker_options broker = {options->routes, embedded->loop.clock,
                                                     lvt_engine_broker_sink(embedded->engine)};
    code = lvt_memory_broker_new(&broker, &embedded->broker, err);
    if (code == LEVERET_OK)
        code =
            lvt_memory_ledger_new(lvt_engine_ledger_sink(embedded->engine), &embedded->ledger, err);
    if (code == LEVERET_OK)
        code = lvt_memory_cache_new(&embedded->cache, err);
    if (code == LEVERET_OK)
        code = lvt_http_new(&embedded->loop.uv, &embedded->http, err);
    if (code != LEVERET_OK)
        return code;
    uv_async_init(&embedded->loop.uv, &embedded->wake, woke);
    embedded->wake.data = embedded;
    lvt_engine_attach(embedded->engine, lvt_memory_broker_port(embedded->broker),
                      lvt_memory_ledger_port(embedded->ledger),
                      lvt_memory_cache_port(embedded->cache), lvt_http_port(embedded->http));
    return code;
}

static void free_all(struct embedded *embedded) {
    lvt_engine_free(embedded->engine);
    lvt_memory_broker_free(embedded->broker);
    lvt_memory_ledger_free(embedded->ledger);
    lvt_memory_cache_free(embedded->cache);
    lvt_http_free(embedded->http);
    lvt_stats_free(embedded->stats);
    lvt_loop_free(&embedded->loop);
    lvt_buffer_free(&embedded->line);
    free(embedded);
}

enum leveret_code lvt_embedded_run(const struct lvt_embedded_options *options,
                                   struct leveret_error *err) {
    struct embedded *embedded = calloc(1, sizeof *embedded);
    if (!embedded)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    embedded->options = options;
    /* A body that is over the limit by a little still goes its way to the dead letters. */
    lvt_buffer_init(&embedded->line, 2 * (size_t)options->config->max_body_bytes);
    enum leveret_code code = lvt_loop_init(&embedded->loop, pump, embedded, err);
    if (code != LEVERET_OK) {
        free(embedded);
        return code;
    }
    embedded->stats = lvt_stats_new(embedded->loop.clock.now_ms(embedded->loop.clock.self));
    code = embedded->stats ? make_ports(embedded, err)
                           : leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    if (code == LEVERET_OK) {
        lvt_loop_run(&embedded->loop);
        if (embedded->failure.code != LEVERET_OK) {
            code = embedded->failure.code;
            leveret_fail(err, code, "%s", embedded->failure.text);
        }
    }
    free_all(embedded);
    return code;
}
