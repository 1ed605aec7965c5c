/* A dead letter: what a delivery from a dead-letter queue tells of the event and its failure. */
#ifndef LEVERET_DLQ_LETTER_H
#define LEVERET_DLQ_LETTER_H

#include <stdint.h>

#include "base/error.h"
#include "dlq/fingerprint.h"
#include "event/delivery.h"

/* Texts are the delivery's, or live in its arena; one that is not known is empty. */
struct lvt_letter {
    struct lvt_delivery *delivery;
    /* The queue that it failed in, and where that had it from. Without a queue, `no_origin` says
     * why there is none that is certain. */
    struct lvt_bytes queue, exchange, routing_key;
    const char *no_origin;
    bool by_broker; /* leveret has not handled it: the broker moved it here (x-death) */
    struct lvt_bytes event;
    struct lvt_bytes id; /* the message's, else the envelope's */
    struct lvt_bytes error, trace, handler;
    int64_t attempts;    /* that were made; -1: not known */
    int64_t failed_at_s; /* since 1970; -1: not known */
    int64_t handed_out;  /* x-delivery-count: how often the broker has done so before */
    char fingerprint[LVT_FINGERPRINT_LEN + 1];
};

/* The delivery stays the caller's. LEVERET_NO_MEMORY is the only error. */
enum leveret_code lvt_letter_read(struct lvt_delivery *delivery, struct lvt_letter *ret,
                                  struct leveret_error *err) LVT_MUST_CHECK;

/* The properties that the event goes back to its queue with: its own, and where it came from, but
 * nothing of its failure. It begins at its first attempt again. */
enum leveret_code lvt_letter_revive(const struct lvt_letter *letter, struct lvt_properties *ret,
                                    struct leveret_error *err) LVT_MUST_CHECK;

#endif
