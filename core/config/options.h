/* What a handler may choose about its queue and itself, and the types that it shares with the
 * configuration. */
#ifndef LEVERET_CONFIG_OPTIONS_H
#define LEVERET_CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event/envelope.h"

enum lvt_queue_type { LVT_QUORUM, LVT_CLASSIC };

struct lvt_strings {
    char **items;
    size_t count;
};

void lvt_strings_free(struct lvt_strings *strings);

struct lvt_retry_policy {
    uint32_t max; /* retries after the first run */
    uint64_t base_ms;
    double factor;
    uint64_t cap_ms;
    double jitter; /* 0..1: the share of a delay that chance may take off */
};

/* What a handler's file or plugin asks for, merged over the configuration's defaults. The strings
 * belong to the struct. */
struct lvt_handler_options {
    /* of its queue */
    char *queue; /* NULL: "<name>.queue" */
    enum lvt_queue_type queue_type;
    struct lvt_strings bind; /* empty and !bind_none: the events it handles */
    bool bind_none;
    char *exchange;
    char *dead_letter;
    uint32_t prefetch;
    uint64_t message_ttl_ms; /* 0: none */
    uint32_t max_priority;   /* 0: none */
    enum lvt_envelope_kind envelope;
    /* of its own */
    struct lvt_strings events; /* patterns; empty: the handler's name */
    char *id;                  /* NULL: the usual order; "hash"; or a path such as payload.id */
    struct lvt_retry_policy retry;
    uint64_t timeout_ms;
    uint64_t budget_ms;
    uint64_t memory_kb;
    uint32_t concurrency;
    double rate; /* events per second; 0: no limit */
};

void lvt_handler_options_free(struct lvt_handler_options *options);

#endif
