/* A growable text or byte buffer with a maximum. A failed append (out of memory, over the maximum)
 * sticks: later appends do nothing, and the caller looks once, at the end. */
#ifndef LEVERET_BASE_BUFFER_H
#define LEVERET_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/error.h"

struct lvt_buffer {
    char *data; /* NUL-terminated whenever it is not NULL */
    size_t len;
    size_t size;
    size_t max; /* of len, in bytes */
    bool failed;
};

void lvt_buffer_init(struct lvt_buffer *buffer, size_t max);
/* Over memory of the caller's, of at least one byte, which is never grown: no lvt_buffer_free. */
void lvt_buffer_init_fixed(struct lvt_buffer *buffer, char *memory, size_t size);
void lvt_buffer_free(struct lvt_buffer *buffer);
void lvt_buffer_clear(struct lvt_buffer *buffer); /* keeps the memory, forgets a failure */

/* Forgets what is behind the first len bytes, and a failure. */
void lvt_buffer_truncate(struct lvt_buffer *buffer, size_t len);

void lvt_buffer_append(struct lvt_buffer *buffer, const void *data, size_t len);
void lvt_buffer_text(struct lvt_buffer *buffer, const char *text);
void lvt_buffer_char(struct lvt_buffer *buffer, char c);
void lvt_buffer_printf(struct lvt_buffer *buffer, const char *format, ...) LVT_PRINTF(2, 3);

#endif
