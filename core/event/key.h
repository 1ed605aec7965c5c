/* The ledger's key of an event, and an id for an event that has none of its own. */
#ifndef LEVERET_EVENT_KEY_H
#define LEVERET_EVENT_KEY_H

#include "base/bytes.h"

#define LVT_EVENT_KEY_BYTES 16
#define LVT_EVENT_HASH_BYTES 32

/* The first 128 bits of a SHA-256 over the four, each after its length in bytes as 32 bits, most
 * significant byte first. `name` is the ledger's processor_name. The migrations compute the same in
 * SQL: this must never change. */
void lvt_event_key(struct lvt_bytes name, struct lvt_bytes queue, struct lvt_bytes type,
                   struct lvt_bytes id, unsigned char ret_key[LVT_EVENT_KEY_BYTES]);

/* The SHA-256 of type and body (type after its length, as above), in hexadecimal with a NUL. */
void lvt_sha256_hex(struct lvt_bytes type, struct lvt_bytes body,
                    char ret_hex[2 * LVT_EVENT_HASH_BYTES + 1]);

#endif
