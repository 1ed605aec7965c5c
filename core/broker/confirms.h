/* What was published on a channel with confirms and has no answer yet, by sequence number; for the
 * worker's publisher and for the dead letters that go back. */
#ifndef LEVERET_BROKER_CONFIRMS_H
#define LEVERET_BROKER_CONFIRMS_H

#include "broker/frames.h"
#include "broker/ladder.h"
#include "engine/ports.h"

/* Where a publish goes, in the protocol's terms. */
struct lvt_route {
    struct lvt_bytes exchange, routing_key;
    struct lvt_ladder_entry entry; /* what they may point into */
};

struct lvt_unconfirmed {
    struct lvt_publish *publish; /* NULL: answered */
    bool returned;               /* or may have been: see lvt_confirms_return */
    char return_text[200];
};

struct lvt_confirms {
    struct lvt_unconfirmed *slots; /* the owner's; by sequence number, modulo */
    size_t size;
    /* What became of one. The confirms have no more to do with it. */
    void (*answer)(void *ctx, struct lvt_publish *publish, enum lvt_publish_result result,
                   const char *reason);
    void *ctx;
    uint64_t first, next; /* sequence numbers: oldest in flight, next to send */
    size_t in_flight;
};

void lvt_route_of(const struct lvt_publish *publish, struct lvt_route *ret);

/* For a new channel. */
void lvt_confirms_reset(struct lvt_confirms *confirms);
bool lvt_confirms_full(const struct lvt_confirms *confirms);

/* Sends it: persistent, mandatory. What the protocol cannot carry is answered at once. LEVERET_OK
 * in both cases; with an error the connection is of no more use, and it is in flight. */
enum leveret_code lvt_confirms_send(struct lvt_confirms *confirms,
                                    struct lvt_connection *connection, struct lvt_publish *publish,
                                    struct leveret_error *err) LVT_MUST_CHECK;

/* The broker's word. */
void lvt_confirms_ack(struct lvt_confirms *confirms, const amqp_basic_ack_t *ack);
void lvt_confirms_nack(struct lvt_confirms *confirms, const amqp_basic_nack_t *nack);
/* A return does not say which publish it is about, only where that went, and comes before its
 * confirm. So all that went there under that id and are still in flight count as returned: one too
 * many is published twice, one too few would be lost. */
void lvt_confirms_return(struct lvt_confirms *confirms, const struct lvt_incoming *incoming);

/* Takes the oldest out, without an answer; NULL: none is in flight. */
struct lvt_publish *lvt_confirms_take_back(struct lvt_confirms *confirms);
/* Whether somebody waits for one of them. */
bool lvt_confirms_wanted(const struct lvt_confirms *confirms);

#endif
