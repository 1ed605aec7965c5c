/* Reads JSON (RFC 8259) token by token and writes it, without losing anything: numbers stay as they
 * are spelt, strings may hold \u0000, and nothing is rounded. cJSON keeps every number as a double
 * and ends strings at a NUL, so bodies of events do not go through it. */
#ifndef LEVERET_EVENT_JSON_H
#define LEVERET_EVENT_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"
#include "base/error.h"

/* Checks that text is one JSON value and nothing else: grammar, UTF-8 (in strings and of escapes:
 * no lone surrogates), no NUL byte, nesting of at most max_depth. The text of the error names what
 * is wrong and the byte offset. */
enum leveret_code lvt_json_validate(struct lvt_bytes text, size_t max_depth,
                                    struct leveret_error *err) LVT_MUST_CHECK;

enum lvt_json_token {
    LVT_JSON_END, /* of the text */
    LVT_JSON_NULL,
    LVT_JSON_TRUE,
    LVT_JSON_FALSE,
    LVT_JSON_NUMBER,
    LVT_JSON_STRING,
    LVT_JSON_KEY, /* an object's key; its value follows */
    LVT_JSON_OBJECT,
    LVT_JSON_OBJECT_END,
    LVT_JSON_ARRAY,
    LVT_JSON_ARRAY_END,
};

/* Walks text that lvt_json_validate has passed: it checks nothing again. */
struct lvt_json_reader {
    const char *at, *end;
    struct lvt_bytes raw; /* the token's spelling; of a string or key, what is between the quotes */
    bool escaped;         /* the string or key has escapes: see lvt_json_unescape */
};

void lvt_json_reader_init(struct lvt_json_reader *reader, struct lvt_bytes text);
enum lvt_json_token lvt_json_next(struct lvt_json_reader *reader);
/* Having read the first token of a value, passes over the rest of it, and returns its whole text.
 */
struct lvt_bytes lvt_json_skip(struct lvt_json_reader *reader, enum lvt_json_token first);

/* Resolves the escapes of a raw string into `out`, which has room for raw.len bytes; the length. */
size_t lvt_json_unescape(struct lvt_bytes raw, char *out);

/* A number's spelling as an integer: false when it has a fraction or exponent, is "-0", or does not
 * fit 64 bits. */
bool lvt_json_integer(struct lvt_bytes raw, int64_t *ret_value);

/* Writes a string with its quotes, escaping what must be; invalid UTF-8 becomes U+FFFD. */
void lvt_json_write_string(struct lvt_buffer *out, struct lvt_bytes text);
/* The shortest spelling that reads back as the same double, always with a '.' or an exponent.
 * False when it is not finite: JSON has no spelling for it. */
bool lvt_json_write_number(struct lvt_buffer *out, double number);

#endif
