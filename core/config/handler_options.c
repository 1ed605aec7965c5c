#include <string.h>

#include "config/keys.h"

#define KEY(path, kind, field, fallback, low, high, names, text)                                   \
    {                                                                                              \
        .name = (path), .type = LVT_KEY_##kind,                                                    \
        .offset = offsetof(struct lvt_handler_options, field), .initial = (fallback),              \
        .min = (low), .max = (high), .choices = (names), .reloadable = true, .description = (text) \
    }

#define DAY_MS 86400e3

static const char *const queue_types[] = {"quorum", "classic", NULL};
static const char *const envelopes[] = {"auto", "event", "item", "message", "cloudevents", NULL};
_Static_assert(LVT_ENVELOPE_AUTO == 0 && LVT_ENVELOPE_CLOUDEVENTS == 4, "envelopes has this order");

/* A row without a default takes the configuration's key of that name, or is told in its text. */
const struct lvt_key lvt_handler_keys[] = {
    KEY("queue", TEXT, queue, NULL, 1, 255, NULL,
        "Its queue, which several handlers may share. Default: the file's name and `.queue`."),
    KEY("queue_type", CHOICE, queue_type, NULL, 0, 0, queue_types,
        "The queue's type. Default: `rabbitmq.queue_type`."),
    KEY("bind", BIND, bind, NULL, 1, 100, NULL,
        "Routing keys to bind the queue with, or `false` for none. Default: `events`."),
    KEY("exchange", TEXT, exchange, NULL, 1, 255, NULL,
        "The topic exchange to bind the queue to. Default: `rabbitmq.exchange`."),
    KEY("dead_letter", TEXT, dead_letter, NULL, 1, 255, NULL,
        "The queue for events that failed for good. Default: `dead_letter.queue`."),
    KEY("prefetch", INTEGER, prefetch, NULL, 1, 65535, NULL,
        "Deliveries that the queue's consumer may hold. Default: `rabbitmq.prefetch`."),
    KEY("message_ttl_ms", DURATION, message_ttl_ms, "0", 0, 4294967295.0, NULL,
        "How long a message may wait in the queue; 0: for ever."),
    KEY("max_priority", INTEGER, max_priority, "0", 0, 255, NULL,
        "The queue's highest priority; 0: it has none."),
    KEY("envelope", CHOICE, envelope, "auto", 0, 0, envelopes,
        "The envelope that the queue's events come in; `auto` tells them apart."),
    KEY("events", LIST, events, NULL, 1, 100, NULL,
        "Types that it handles, `*` for one word and `#` for any. Default: the file's name."),
    KEY("id", TEXT, id, NULL, 1, 255, NULL,
        "Where an event's id is, such as `payload.id`, or `hash` for a hash of type and body. "
        "Default: the message id, then the envelope's."),
    KEY("retry.max", INTEGER, retry.max, NULL, 0, 1000, NULL,
        "Retries after the first run. Default: the configuration's, as for all of `retry`."),
    KEY("retry.base_ms", DURATION, retry.base_ms, NULL, 0, 30 * DAY_MS, NULL,
        "The delay before the first retry."),
    KEY("retry.factor", NUMBER, retry.factor, NULL, 1, 100, NULL,
        "How many times longer each delay is than the one before."),
    KEY("retry.cap_ms", DURATION, retry.cap_ms, NULL, 0, 30 * DAY_MS, NULL, "The longest delay."),
    KEY("retry.jitter", NUMBER, retry.jitter, NULL, 0, 1, NULL,
        "The share of a delay that chance may take off."),
    KEY("timeout_ms", DURATION, timeout_ms, NULL, 1, DAY_MS, NULL,
        "How long it may take for one event. Default: `timeout_ms`."),
    KEY("budget_ms", DURATION, budget_ms, NULL, 10, DAY_MS, NULL,
        "Processor time that it may use between two waits. Default: `budget_ms`."),
    KEY("memory_kb", LONG, memory_kb, NULL, 256, 16777216, NULL,
        "Memory that it may use, in KiB. Default: `memory_kb`."),
    KEY("concurrency", INTEGER, concurrency, NULL, 1, 32767, NULL,
        "Events that it may have under way at once. Default: `concurrency`."),
    KEY("rate", NUMBER, rate, "0", 0, 1e6, NULL, "Events per second; 0: no limit."),
};
const size_t lvt_handler_key_count = sizeof lvt_handler_keys / sizeof *lvt_handler_keys;

enum leveret_code lvt_handler_options_init(struct lvt_handler_options *options,
                                           const struct lvt_config *config,
                                           struct leveret_error *err) {
    *options = (struct lvt_handler_options){
        .queue_type = config->rabbitmq.queue_type,
        .exchange = strdup(config->rabbitmq.exchange),
        .dead_letter = strdup(config->dead_letter.queue),
        .prefetch = config->rabbitmq.prefetch,
        .retry = config->retry,
        .timeout_ms = config->timeout_ms,
        .budget_ms = config->budget_ms,
        .memory_kb = config->memory_kb,
        .concurrency = config->concurrency,
    };
    if (!options->exchange || !options->dead_letter) {
        lvt_handler_options_free(options);
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for a handler's options");
    }
    enum leveret_code code = lvt_keys_init(lvt_handler_keys, lvt_handler_key_count, options, err);
    if (code != LEVERET_OK) {
        lvt_handler_options_free(options);
    }
    return code;
}

void lvt_handler_options_free(struct lvt_handler_options *options) {
    if (options) {
        lvt_keys_free(lvt_handler_keys, lvt_handler_key_count, options);
    }
}
