#include <inttypes.h>
#include <stdio.h>

#include "admin/private.h"
#include "base/utf8.h"

/* ---- the format's parts ---- */

static void family(struct lvt_buffer *out, const char *name, const char *type, const char *help) {
    lvt_buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: UTF-8 whatever the publisher of an event called it. */
static void value(struct lvt_buffer *out, struct lvt_bytes text) {
    for (size_t i = 0; i < text.len;) {
        size_t len = lvt_utf8_length(text.data + i, text.len - i);
        char c = text.data[i];
        if (len == 0 || c == 0)
            lvt_buffer_text(out, "\xef\xbf\xbd");
        else if (c == '\n')
            lvt_buffer_text(out, "\\n");
        else if (c == '"' || c == '\\')
            lvt_buffer_printf(out, "\\%c", c);
        else
            lvt_buffer_append(out, text.data + i, len);
        i += len > 0 ? len : 1;
    }
}

/* name{key="value" without the closing brace: the caller adds further labels, or none. */
static void sample(struct lvt_buffer *out, const char *name, const char *key,
                   struct lvt_bytes text) {
    lvt_buffer_printf(out, "%s{%s=\"", name, key);
    value(out, text);
    lvt_buffer_char(out, '"');
}

static void label(struct lvt_buffer *out, const char *key, const char *text) {
    lvt_buffer_printf(out, ",%s=\"", key);
    value(out, lvt_bytes_of(text));
    lvt_buffer_char(out, '"');
}

/* ---- the metrics ---- */

static bool has_counts(const struct lvt_event_stats *event) {
    uint64_t sum = event->runs != NULL;
    for (size_t i = 0; i < LVT_OUTCOME_COUNT; i++)
        sum += event->outcomes[i];
    return sum > 0;
}

static void write_events(const struct lvt_stats *stats, struct lvt_buffer *out) {
    family(out, "leveret_events_total", "counter", "What became of events; retried: of attempts.");
    for (const struct lvt_event_stats *event = stats->first; event; event = event->next) {
        if (!has_counts(event))
            continue;
        for (int i = 0; i < LVT_OUTCOME_COUNT; i++) {
            sample(out, "leveret_events_total", "event", event->type);
            lvt_buffer_printf(out, ",outcome=\"%s\"} %" PRIu64 "\n",
                              lvt_outcome_text((enum lvt_outcome)i), event->outcomes[i]);
        }
    }
}

static void write_published(const struct lvt_stats *stats, struct lvt_buffer *out) {
    static const char *const outcomes[] = {
        [LVT_PUBLISH_CONFIRMED] = "confirmed",
        [LVT_PUBLISH_RETURNED] = "returned",
        [LVT_PUBLISH_REFUSED] = "refused",
        [LVT_PUBLISH_DROPPED] = "dropped",
    };
    family(out, "leveret_published_total", "counter",
           "Messages published, by the broker's answer.");
    for (const struct lvt_event_stats *event = stats->first; event; event = event->next)
        for (size_t i = 0; i < sizeof outcomes / sizeof outcomes[0]; i++) {
            if (event->published[i] == 0)
                continue;
            sample(out, "leveret_published_total", "event", event->type);
            lvt_buffer_printf(out, ",outcome=\"%s\"} %" PRIu64 "\n", outcomes[i],
                              event->published[i]);
        }
}

/* What a histogram is of; the last two may be NULL. */
struct subject {
    struct lvt_bytes event;
    const char *handler, *version;
};

static void subject_sample(struct lvt_buffer *out, const char *name,
                           const struct subject *subject) {
    sample(out, name, "event", subject->event);
    if (subject->handler) {
        label(out, "handler", subject->handler);
        label(out, "version", subject->version);
    }
}

static void write_histogram(struct lvt_buffer *out, const char *name, const struct subject *subject,
                            const struct lvt_histogram *histogram, const uint64_t *bounds_ms) {
    char part[64];
    uint64_t below = 0;
    snprintf(part, sizeof part, "%s_bucket", name);
    for (size_t i = 0; i < LVT_HISTOGRAM_BOUNDS; i++) {
        below += histogram->buckets[i];
        subject_sample(out, part, subject);
        lvt_buffer_printf(out, ",le=\"%g\"} %" PRIu64 "\n", (double)bounds_ms[i] / 1000, below);
    }
    subject_sample(out, part, subject);
    lvt_buffer_printf(out, ",le=\"+Inf\"} %" PRIu64 "\n", histogram->count);
    snprintf(part, sizeof part, "%s_sum", name);
    subject_sample(out, part, subject);
    lvt_buffer_printf(out, "} %" PRIu64 ".%03u\n", histogram->sum_ms / 1000,
                      (unsigned)(histogram->sum_ms % 1000));
    snprintf(part, sizeof part, "%s_count", name);
    subject_sample(out, part, subject);
    lvt_buffer_printf(out, "} %" PRIu64 "\n", histogram->count);
}

static void write_histograms(const struct lvt_stats *stats, struct lvt_buffer *out) {
    family(out, "leveret_handler_seconds", "histogram",
           "How long handlers took; of the last few versions.");
    for (const struct lvt_event_stats *event = stats->first; event; event = event->next)
        for (const struct lvt_run_stats *runs = event->runs; runs; runs = runs->next) {
            const struct subject subject = {event->type, runs->handler, runs->version};
            write_histogram(out, "leveret_handler_seconds", &subject, &runs->seconds,
                            lvt_handler_bounds_ms);
        }
    family(out, "leveret_event_age_seconds", "histogram",
           "How old events were when their handler began.");
    for (const struct lvt_event_stats *event = stats->first; event; event = event->next) {
        const struct subject subject = {.event = event->type};
        if (event->age.count > 0)
            write_histogram(out, "leveret_event_age_seconds", &subject, &event->age,
                            lvt_age_bounds_ms);
    }
}

static void write_handlers(const struct lvt_snapshot *snapshot, struct lvt_buffer *out) {
    const struct lvt_routes *routes = snapshot->routes;
    family(out, "leveret_handler_info", "gauge", "1 for each handler, with its version.");
    for (size_t i = 0; routes && i < routes->handler_count; i++) {
        const struct lvt_handler *handler = routes->handlers[i];
        if (handler->forwards)
            continue; /* leveret's own */
        sample(out, "leveret_handler_info", "handler", lvt_bytes_of(handler->name));
        label(out, "version", handler->version);
        label(out, "queue", handler->queue->name);
        lvt_buffer_text(out, "} 1\n");
    }
    family(out, "leveret_reloads_total", "counter", "What came of changes of handlers' files.");
    for (const struct lvt_reload_stats *reloads = snapshot->stats->reloads; reloads;
         reloads = reloads->next)
        for (int i = 0; i < LVT_RELOAD_RESULT_COUNT; i++) {
            sample(out, "leveret_reloads_total", "handler", lvt_bytes_of(reloads->handler));
            label(out, "result", lvt_reload_text((enum lvt_reload_result)i));
            lvt_buffer_printf(out, "} %" PRIu64 "\n", reloads->results[i]);
        }
}

static void write_queues(const struct lvt_snapshot *snapshot, struct lvt_buffer *out) {
    family(out, "leveret_queue_depth", "gauge", "Messages that wait in a queue.");
    for (size_t i = 0; i < snapshot->queue_count; i++) {
        const struct lvt_queue_figures *queue = &snapshot->queues[i];
        if (queue->depth < 0)
            continue;
        sample(out, "leveret_queue_depth", "queue", lvt_bytes_of(queue->name));
        lvt_buffer_printf(out, "} %" PRId64 "\n", queue->depth);
    }
    family(out, "leveret_consumers", "gauge", "Consumers of a queue, those of other workers too.");
    for (size_t i = 0; i < snapshot->queue_count; i++) {
        const struct lvt_queue_figures *queue = &snapshot->queues[i];
        if (queue->consumers < 0)
            continue;
        sample(out, "leveret_consumers", "queue", lvt_bytes_of(queue->name));
        lvt_buffer_printf(out, "} %" PRId64 "\n", queue->consumers);
    }
}

/* Only the worker that relays knows: of the others no line comes, rather than a wrong one. */
static void write_outbox(const struct lvt_outbox_figures *outbox, struct lvt_buffer *out) {
    family(out, "leveret_outbox_relay", "gauge", "1 in the worker that relays the outbox.");
    lvt_buffer_printf(out, "leveret_outbox_relay %d\n", outbox->relaying);
    if (!outbox->relaying || outbox->pending < 0)
        return;
    family(out, "leveret_outbox_pending", "gauge",
           "Events of the outbox that have not been sent; counted up to 100000.");
    lvt_buffer_printf(out, "leveret_outbox_pending %" PRId64 "\n", outbox->pending);
    family(out, "leveret_outbox_lag_seconds", "gauge", "How old the oldest of them is.");
    lvt_buffer_printf(out, "leveret_outbox_lag_seconds %" PRId64 ".%03d\n", outbox->lag_ms / 1000,
                      (int)(outbox->lag_ms % 1000));
    family(out, "leveret_outbox_failed", "gauge",
           "Events of the outbox that cannot be published; counted up to 100000.");
    lvt_buffer_printf(out, "leveret_outbox_failed %" PRId64 "\n", outbox->failed);
}

void lvt_metrics_write(const struct lvt_snapshot *snapshot, struct lvt_buffer *out) {
    const struct lvt_stats *stats = snapshot->stats;
    family(out, "leveret_up", "gauge", "1, with the worker's version.");
    sample(out, "leveret_up", "version", lvt_bytes_of(LEVERET_VERSION));
    lvt_buffer_text(out, "} 1\n");
    family(out, "leveret_uptime_seconds", "gauge", "Since the worker started.");
    lvt_buffer_printf(out, "leveret_uptime_seconds %" PRIu64 "\n", snapshot->uptime_s);
    write_events(stats, out);
    write_published(stats, out);
    write_histograms(stats, out);
    write_handlers(snapshot, out);
    family(out, "leveret_in_flight", "gauge",
           "Events whose handler has begun, or ended and is not settled.");
    lvt_buffer_printf(out, "leveret_in_flight %" PRIu64 "\n", stats->in_flight);
    write_queues(snapshot, out);
    write_outbox(&snapshot->outbox, out);
    family(out, "leveret_connected", "gauge", "1 when connected to this service.");
    for (size_t i = 0; i < snapshot->connected_count; i++) {
        const struct lvt_connection_figures *connection = &snapshot->connected[i];
        sample(out, "leveret_connected", "to", lvt_bytes_of(connection->to));
        lvt_buffer_printf(out, "} %d\n", connection->connected);
    }
    family(out, "leveret_events_without_id_total", "counter",
           "Events that had no id, and so were not deduplicated.");
    lvt_buffer_printf(out, "leveret_events_without_id_total %" PRIu64 "\n",
                      stats->events_without_id);
}
