/* A message's properties and headers as AMQP 0-9-1 knows them, in types of our own. The kind of a
 * value is its letter on the wire, so that a header leaves exactly as it came. */
#ifndef LEVERET_EVENT_HEADERS_H
#define LEVERET_EVENT_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"

struct lvt_header;

struct lvt_headers {
    struct lvt_header *items;
    size_t count;
};

enum lvt_header_kind {
    LVT_HEADER_BOOLEAN = 't',
    LVT_HEADER_INT8 = 'b',
    LVT_HEADER_UINT8 = 'B',
    LVT_HEADER_INT16 = 's',
    LVT_HEADER_UINT16 = 'u',
    LVT_HEADER_INT32 = 'I',
    LVT_HEADER_UINT32 = 'i',
    LVT_HEADER_INT64 = 'l',
    LVT_HEADER_UINT64 = 'L',
    LVT_HEADER_FLOAT = 'f',
    LVT_HEADER_DOUBLE = 'd',
    LVT_HEADER_DECIMAL = 'D',
    LVT_HEADER_STRING = 'S',
    LVT_HEADER_BYTES = 'x',
    LVT_HEADER_ARRAY = 'A',
    LVT_HEADER_TIMESTAMP = 'T',
    LVT_HEADER_TABLE = 'F',
    LVT_HEADER_VOID = 'V',
};

struct lvt_header {
    struct lvt_bytes name; /* empty for an array's items */
    enum lvt_header_kind kind;
    union {
        bool boolean;
        int64_t integer;           /* the signed kinds */
        uint64_t unsigned_integer; /* the unsigned kinds and TIMESTAMP (seconds) */
        double number;             /* FLOAT and DOUBLE */
        struct {
            uint8_t decimals;
            uint32_t value;
        } decimal;
        struct lvt_bytes bytes;    /* STRING and BYTES */
        struct lvt_headers nested; /* TABLE and ARRAY */
    } value;
};

/* Which properties a message carries. */
enum lvt_property {
    LVT_HAS_CONTENT_TYPE = 1 << 0,
    LVT_HAS_CONTENT_ENCODING = 1 << 1,
    LVT_HAS_DELIVERY_MODE = 1 << 2,
    LVT_HAS_PRIORITY = 1 << 3,
    LVT_HAS_CORRELATION_ID = 1 << 4,
    LVT_HAS_REPLY_TO = 1 << 5,
    LVT_HAS_EXPIRATION = 1 << 6,
    LVT_HAS_MESSAGE_ID = 1 << 7,
    LVT_HAS_TIMESTAMP = 1 << 8,
    LVT_HAS_TYPE = 1 << 9,
    LVT_HAS_USER_ID = 1 << 10,
    LVT_HAS_APP_ID = 1 << 11,
    LVT_HAS_CLUSTER_ID = 1 << 12,
    LVT_HAS_HEADERS = 1 << 13,
};

struct lvt_properties {
    unsigned present; /* of enum lvt_property */
    uint8_t delivery_mode;
    uint8_t priority;
    uint64_t timestamp; /* seconds since 1970 */
    struct lvt_bytes content_type, content_encoding, correlation_id, reply_to, expiration;
    struct lvt_bytes message_id, type, user_id, app_id, cluster_id;
    struct lvt_headers headers;
};

/* NULL when there is none of that name. The first of several wins. */
const struct lvt_header *lvt_headers_find(const struct lvt_headers *headers, const char *name);
/* Any integer kind, or a string of decimal digits; false when it is none of these, out of range, or
 * NULL. */
bool lvt_header_integer(const struct lvt_header *header, int64_t *ret_value);
/* The deepest nesting of tables and arrays: 0 for a flat table. Stops counting past `limit`. */
size_t lvt_headers_depth(const struct lvt_headers *headers, size_t limit);

#endif
