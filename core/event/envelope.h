/* Finds the event in a body, whichever of the known envelopes it came in. */
#ifndef LEVERET_EVENT_ENVELOPE_H
#define LEVERET_EVENT_ENVELOPE_H

#include <stdint.h>

#include "base/error.h"
#include "event/delivery.h"

/* Nesting that a body or a header table may have. */
#define LVT_NESTING_MAX 64

enum lvt_envelope_kind {
    LVT_ENVELOPE_AUTO,
    LVT_ENVELOPE_EVENT,       /* {event, payload} */
    LVT_ENVELOPE_ITEM,        /* {type, item, timestamp} */
    LVT_ENVELOPE_MESSAGE,     /* {id, type, payload, max_attempts, delay, priority, created_at} */
    LVT_ENVELOPE_CLOUDEVENTS, /* CloudEvents 1.0, structured or binary */
};

struct lvt_envelope {
    struct lvt_bytes type;
    struct lvt_bytes id;      /* the envelope's own; empty when it has none */
    struct lvt_bytes payload; /* JSON text, a slice of the body; "null" when there is none */
    struct lvt_bytes time;    /* timestamp, created_at or CloudEvents' time, as text */
    int64_t max_attempts, delay_s, priority; /* -1 when not given */
};

/* Validates the whole body (JSON, UTF-8, nesting) and reads the envelope; of a member that is there
 * several times the first one counts. Texts are slices of the body or live in the delivery's arena.
 * LEVERET_MALFORMED with a text for a person: what is wrong and where. */
enum leveret_code lvt_envelope_read(struct lvt_delivery *delivery, enum lvt_envelope_kind kind,
                                    struct lvt_envelope *ret_envelope,
                                    struct leveret_error *err) LVT_MUST_CHECK;

/* What an envelope's type and id must be, for those who make one. LEVERET_MALFORMED. */
enum leveret_code lvt_envelope_check_type(struct lvt_bytes type,
                                          struct leveret_error *err) LVT_MUST_CHECK;
enum leveret_code lvt_envelope_check_id(struct lvt_bytes id,
                                        struct leveret_error *err) LVT_MUST_CHECK;

/* The scalar at a path such as "payload.ticket.id" as text (a number as it is spelt); false when
 * there is none or it is an object, an array or null. body is valid JSON. */
bool lvt_json_scalar_at(struct lvt_bytes body, const char *path, struct lvt_arena *arena,
                        struct lvt_bytes *ret_text);

#endif
