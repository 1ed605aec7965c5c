#include "base/buffer.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_SIZE 64

void lvt_buffer_init(struct lvt_buffer *buffer, size_t max) {
    *buffer = (struct lvt_buffer){.max = max < SIZE_MAX ? max : SIZE_MAX - 1};
}

void lvt_buffer_init_fixed(struct lvt_buffer *buffer, char *memory, size_t size) {
    memory[0] = '\0';
    /* Full at its whole size: reserve() never has to ask for more. */
    *buffer = (struct lvt_buffer){.data = memory, .size = size, .max = size - 1};
}

void lvt_buffer_free(struct lvt_buffer *buffer) {
    if (!buffer) {
        return;
    }
    free(buffer->data);
    lvt_buffer_init(buffer, buffer->max);
}

void lvt_buffer_clear(struct lvt_buffer *buffer) {
    lvt_buffer_truncate(buffer, 0);
}

void lvt_buffer_truncate(struct lvt_buffer *buffer, size_t len) {
    buffer->failed = false;
    if (len <= buffer->len && buffer->data) {
        buffer->len = len;
        buffer->data[len] = '\0';
    }
}

/* Makes room for len more bytes and the NUL behind them. */
static bool reserve(struct lvt_buffer *buffer, size_t len) {
    if (buffer->failed || len > buffer->max - buffer->len) {
        buffer->failed = true;
        return false;
    }
    size_t need = buffer->len + len + 1;
    if (need <= buffer->size) {
        return true;
    }
    size_t size = buffer->size ? buffer->size : FIRST_SIZE;
    while (size < need) {
        size = size > SIZE_MAX / 2 ? need : size * 2;
    }
    if (size > buffer->max + 1) {
        size = buffer->max + 1;
    }
    char *data = realloc(buffer->data, size);
    if (!data) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->size = size;
    return true;
}

void lvt_buffer_append(struct lvt_buffer *buffer, const void *data, size_t len) {
    if (!reserve(buffer, len)) {
        return;
    }
    if (len > 0) {
        memcpy(buffer->data + buffer->len, data, len);
    }
    buffer->len += len;
    buffer->data[buffer->len] = '\0';
}

void lvt_buffer_text(struct lvt_buffer *buffer, const char *text) {
    lvt_buffer_append(buffer, text, strlen(text));
}

void lvt_buffer_char(struct lvt_buffer *buffer, char c) {
    lvt_buffer_append(buffer, &c, 1);
}

void lvt_buffer_printf(struct lvt_buffer *buffer, const char *format, ...) {
    if (buffer->failed) {
        return;
    }
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    size_t room = buffer->size - buffer->len;
    int len = vsnprintf(room ? buffer->data + buffer->len : NULL, room, format, args);
    va_end(args);
    if (len < 0 || !reserve(buffer, (size_t)len)) {
        buffer->failed = true;
        if (buffer->data) {
            buffer->data[buffer->len] = '\0';
        }
    } else {
        if ((size_t)len >= room) {
            vsnprintf(buffer->data + buffer->len, (size_t)len + 1, format, again);
        }
        buffer->len += (size_t)len;
    }
    va_end(again);
}
