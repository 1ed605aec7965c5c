#include "ledger/pg_array.h"

#include "base/utf8.h"

#define HEADER_BYTES 20             /* dimensions, nulls, element's oid, length, lower bound */
#define ARRAY_MAX ((size_t)1 << 29) /* PostgreSQL's own limit of a value is 1 GiB */

static void write_be32(char *at, uint32_t value) {
    at[0] = (char)(value >> 24);
    at[1] = (char)(value >> 16);
    at[2] = (char)(value >> 8);
    at[3] = (char)value;
}

static void append_be32(struct lvt_buffer *buffer, uint32_t value) {
    char bytes[4];
    write_be32(bytes, value);
    lvt_buffer_append(buffer, bytes, sizeof bytes);
}

void lvt_pg_array_init(struct lvt_pg_array *array, enum lvt_pg_element element) {
    lvt_buffer_init(&array->buffer, ARRAY_MAX);
    array->element = element;
    array->count = 0;
}

void lvt_pg_array_free(struct lvt_pg_array *array) {
    lvt_buffer_free(&array->buffer);
}

void lvt_pg_array_begin(struct lvt_pg_array *array) {
    static const char header[HEADER_BYTES];
    lvt_buffer_clear(&array->buffer);
    lvt_buffer_append(&array->buffer, header, sizeof header);
    array->count = 0;
}

void lvt_pg_array_int8(struct lvt_pg_array *array, int64_t value) {
    append_be32(&array->buffer, 8);
    append_be32(&array->buffer, (uint32_t)((uint64_t)value >> 32));
    append_be32(&array->buffer, (uint32_t)value);
    array->count++;
}

void lvt_pg_array_uuid(struct lvt_pg_array *array, const unsigned char uuid[16]) {
    append_be32(&array->buffer, 16);
    lvt_buffer_append(&array->buffer, uuid, 16);
    array->count++;
}

void lvt_pg_array_text(struct lvt_pg_array *array, struct lvt_bytes text) {
    size_t at = array->buffer.len;
    append_be32(&array->buffer, 0);
    lvt_pg_text(&array->buffer, text);
    if (!array->buffer.failed)
        write_be32(array->buffer.data + at, (uint32_t)(array->buffer.len - at - 4));
    array->count++;
}

bool lvt_pg_array_end(struct lvt_pg_array *array) {
    if (array->buffer.failed)
        return false;
    char *header = array->buffer.data;
    write_be32(header, array->count > 0);
    write_be32(header + 8, (uint32_t)array->element);
    write_be32(header + 12, array->count);
    write_be32(header + 16, 1);
    if (array->count == 0)
        array->buffer.len = 12; /* an array without dimensions says nothing about them */
    return true;
}

void lvt_pg_text(struct lvt_buffer *buffer, struct lvt_bytes text) {
    size_t from = 0, at = 0;
    lvt_buffer_append(buffer, "", 0); /* empty is not NULL */
    while (at < text.len) {
        size_t len = text.data[at] == '\0' ? 0 : lvt_utf8_length(text.data + at, text.len - at);
        if (len > 0) {
            at += len;
            continue;
        }
        lvt_buffer_append(buffer, text.data + from, at - from);
        lvt_buffer_text(buffer, "\xef\xbf\xbd");
        from = ++at;
    }
    if (at > from)
        lvt_buffer_append(buffer, text.data + from, at - from);
}
