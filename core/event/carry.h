/* What goes along when a message is published again by another than its publisher. */
#ifndef LEVERET_EVENT_CARRY_H
#define LEVERET_EVENT_CARRY_H

#include "event/headers.h"

/* Copies the properties: without what the broker wrote about an earlier life of the message, which
 * it must not read again, and with what it would refuse, expire or copy the message over kept as
 * headers that do nothing. The list of headers has room for `room` more. Persistent. False when
 * out of memory. */
bool lvt_properties_carry(const struct lvt_properties *in, size_t room, struct lvt_arena *arena,
                          struct lvt_properties *ret);

/* At the end of a list that has room for it; the texts stay the caller's. */
void lvt_headers_add_text(struct lvt_headers *headers, const char *name, struct lvt_bytes text);
void lvt_headers_add_integer(struct lvt_headers *headers, const char *name, int64_t integer);

#endif
