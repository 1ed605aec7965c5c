/* A message's properties and headers, between the client library's types and ours. Header tables
 * nest as deep as a frame allows (26,000 levels), and are walked by recursion: call these on a
 * thread with a stack of LVT_AMQP_STACK bytes. */
#ifndef LEVERET_BROKER_AMQP_HEADERS_H
#define LEVERET_BROKER_AMQP_HEADERS_H

#include "base/error.h"
#include "broker/rabbitmq.h"
#include "event/headers.h"

/* The library's own decoder and encoder recurse too. Memory is used as it is touched. */
#define LVT_AMQP_STACK ((size_t)64 << 20)

/* Copies everything into the arena. `raw` is the encoded form that the texts of `in` point into,
 * which is then copied once, whole; it may be empty. False when out of memory. */
bool lvt_properties_from_amqp(const amqp_basic_properties_t *in, struct lvt_bytes raw,
                              struct lvt_arena *arena, struct lvt_properties *ret) LVT_MUST_CHECK;

/* The texts of *ret are those of `in`; the tables live in the arena. *ret_size is the size on the
 * wire, in bytes. LEVERET_INVALID when something cannot be put on the wire: a text for people. */
enum leveret_code lvt_properties_to_amqp(const struct lvt_properties *in, struct lvt_arena *arena,
                                         amqp_basic_properties_t *ret, size_t *ret_size,
                                         struct leveret_error *err) LVT_MUST_CHECK;

#endif
