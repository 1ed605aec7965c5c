/* An event to be published: what may be asked for, and the message that it goes out as. */
#ifndef LEVERET_ENGINE_OUTGOING_H
#define LEVERET_ENGINE_OUTGOING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "event/headers.h"

struct lvt_publish;

/* The per-message wishes, on any message that a worker receives. */
#define LVT_HEADER_MAX_ATTEMPTS "leveret-max-attempts"
#define LVT_HEADER_DELAY "leveret-delay-ms"
#define LVT_HEADER_DELAYED "leveret-delayed"
/* On a message in the ladder that is not a retry: where it goes, and how long it may wait there. */
#define LVT_HEADER_TO_EXCHANGE "leveret-to-exchange"
#define LVT_HEADER_TO_ROUTING_KEY "leveret-to-routing-key"
#define LVT_HEADER_TTL "leveret-ttl-ms"

/* The ladder ends here for an event that was published with a delay: a handler of our own publishes
 * it where it was meant to go. */
#define LVT_OUTGOING_QUEUE "leveret.outgoing"
/* What it cannot publish goes here, as does what the ladder cannot route: the dead letters of the
 * vhost, where workers of different configurations share the queue above. */
#define LVT_UNDELIVERED_QUEUE "leveret.undelivered"

#define LVT_OUTGOING_HEADERS_MAX 100
#define LVT_NO_PRIORITY (-1)

/* Set priority to LVT_NO_PRIORITY where there is none; all else may be zero. */
struct lvt_outgoing {
    struct lvt_bytes event;    /* its type, and the routing key */
    struct lvt_bytes payload;  /* JSON */
    bool whole;                /* the payload is the whole body: an envelope that names the type */
    struct lvt_bytes id;       /* empty: a UUIDv7 */
    struct lvt_bytes exchange; /* data NULL: the configured one */
    struct lvt_bytes queue;    /* not empty: straight to this queue, whatever the exchange */
    uint64_t delay_ms;
    uint64_t ttl_ms;       /* how long it may wait in its queue; 0: for ever */
    int priority;          /* 0 to 255 */
    uint32_t max_attempts; /* 0: the handler's */
    struct lvt_bytes traceparent, tracestate;
    /* STRING, INT64, DOUBLE and BOOLEAN: what JSON has, too. */
    const struct lvt_header *headers;
    size_t header_count;
};

/* The configuration's. */
struct lvt_outgoing_limits {
    const char *exchange; /* where events go that name neither exchange nor queue */
    uint64_t max_body_bytes;
    uint64_t max_delay_ms;
    uint32_t max_attempts;
};

/* LEVERET_INVALID, LEVERET_TOO_BIG or LEVERET_MALFORMED, with a text that names the field. */
enum leveret_code lvt_outgoing_check(const struct lvt_outgoing *outgoing,
                                     const struct lvt_outgoing_limits *limits,
                                     struct leveret_error *err) LVT_MUST_CHECK;

/* With all that it points to. LEVERET_NO_MEMORY is the only error. */
enum leveret_code lvt_outgoing_copy(const struct lvt_outgoing *from, struct lvt_arena *arena,
                                    struct lvt_outgoing *ret) LVT_MUST_CHECK;

/* Of one that has been checked and has its id. What *ret points to is in the arena, or is what the
 * outgoing points to. LEVERET_NO_MEMORY is the only error. */
enum leveret_code lvt_outgoing_build(const struct lvt_outgoing *outgoing,
                                     const struct lvt_outgoing_limits *limits, int64_t wall_ms,
                                     struct lvt_arena *arena,
                                     struct lvt_publish *ret) LVT_MUST_CHECK;

/* A time to live, as the property that RabbitMQ reads. False when out of memory. */
bool lvt_outgoing_expire(struct lvt_properties *properties, struct lvt_arena *arena,
                         uint64_t ttl_ms) LVT_MUST_CHECK;

#endif
