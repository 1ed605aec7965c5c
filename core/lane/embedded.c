#include "lane/embedded.h"

#include <stdlib.h>

#include "base/container.h"
#include "engine/engine.h"
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
    uv_fs_t read;
    char chunk[READ_BYTES];
    struct lvt_buffer line; /* begun, and not ended yet */
    bool reading, input_over, closing;
    enum leveret_code failure;
};

/* The queue that is bound to the event's type; else the first one, whose way to the dead letters
 * tells what is wrong with the event. */
static void publish_line(struct embedded *embedded, struct lvt_bytes line) {
    const struct lvt_routes *routes = embedded->options->routes;
    const struct lvt_properties properties = {0};
    struct lvt_envelope envelope;
    struct leveret_error err;
    size_t queues = 0;
    struct lvt_delivery *probe = lvt_delivery_new(line.len);
    if (!probe) {
        embedded->failure = LEVERET_NO_MEMORY;
        return;
    }
    probe->body = line;
    enum leveret_code code = LEVERET_OK;
    if (lvt_envelope_read(probe, LVT_ENVELOPE_AUTO, &envelope, &err) == LEVERET_OK)
        for (size_t i = 0; i < routes->queue_count && code == LEVERET_OK && queues == 0; i++)
            code = lvt_memory_broker_publish(embedded->broker,
                                             lvt_bytes_of(routes->queues[i]->exchange),
                                             envelope.type, &properties, line, &queues);
    if (queues == 0 && code == LEVERET_OK)
        code = lvt_memory_broker_publish(embedded->broker, lvt_bytes("", 0),
                                         lvt_bytes_of(routes->queues[0]->name), &properties, line,
                                         &queues);
    lvt_delivery_free(probe);
    if (code != LEVERET_OK)
        embedded->failure = code;
}

static void end_line(struct embedded *embedded) {
    struct lvt_buffer *line = &embedded->line;
    if (line->failed)
        lvt_logf(embedded->options->log, LVT_ERROR,
                 "a line of over %zu bytes was passed over: max_body_bytes is %llu", line->max,
                 (unsigned long long)embedded->options->config->max_body_bytes);
    else if (line->len > 0)
        publish_line(embedded, lvt_bytes(line->data, line->len));
    lvt_buffer_clear(line);
}

static void take(struct embedded *embedded, struct lvt_bytes bytes) {
    while (bytes.len > 0) {
        const char *newline = memchr(bytes.data, '\n', bytes.len);
        size_t len = newline ? (size_t)(newline - bytes.data) : bytes.len;
        lvt_buffer_append(&embedded->line, bytes.data, len);
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
    if (count < 0)
        lvt_logf(embedded->options->log, LVT_ERROR, "cannot read the events: %s",
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

static void http_closed(void *ctx) {
    struct embedded *embedded = ctx;
    lvt_loop_close(&embedded->loop);
}

static void close_all(struct embedded *embedded) {
    embedded->closing = true;
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
    if (idle || embedded->failure != LEVERET_OK)
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
                                              .pool = options->config->postgres.pool};
    enum leveret_code code = lvt_engine_new(&engine, &embedded->engine, err);
    if (code != LEVERET_OK)
        return code;
    const struct lvt_memory_broker_options broker = {options->routes, embedded->loop.clock,
                                                     lvt_engine_broker_sink(embedded->engine)};
    const struct lvt_http_options http = {.loop = &embedded->loop.uv};
    code = lvt_memory_broker_new(&broker, &embedded->broker, err);
    if (code == LEVERET_OK)
        code = lvt_memory_ledger_new(lvt_engine_ledger_sink(embedded->engine), &embedded->ledger,
                                     err);
    if (code == LEVERET_OK)
        code = lvt_memory_cache_new(&embedded->cache, err);
    if (code == LEVERET_OK)
        code = lvt_http_new(&http, &embedded->http, err);
    if (code == LEVERET_OK)
        lvt_engine_attach(embedded->engine, lvt_memory_broker_port(embedded->broker),
                          lvt_memory_ledger_port(embedded->ledger),
                          lvt_memory_cache_port(embedded->cache), lvt_http_port(embedded->http));
    return code;
}
