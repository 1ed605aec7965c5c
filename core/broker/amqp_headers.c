#include "broker/amqp_headers.h"

#include <limits.h>

/* ---- from the library's types ---- */

struct reader {
    struct lvt_arena *arena;
    struct lvt_bytes raw;
    const char *copy; /* of raw */
};

static bool keep(struct reader *reader, amqp_bytes_t in, struct lvt_bytes *ret) {
    const char *data = in.bytes;
    struct lvt_bytes raw = reader->raw;
    if (in.len == 0) {
        *ret = lvt_bytes("", 0);
    } else if (raw.len > 0 && data >= raw.data && data + in.len <= raw.data + raw.len) {
        *ret = lvt_bytes(reader->copy + (data - raw.data), in.len);
    } else {
        *ret = lvt_arena_copy(reader->arena, lvt_from_amqp(in));
    }
    return ret->data != NULL;
}

static bool read_value(struct reader *reader, const amqp_field_value_t *in, struct lvt_header *out);

static bool read_table(struct reader *reader, const amqp_table_t *in, struct lvt_headers *out) {
    size_t count = (size_t)in->num_entries;
    struct lvt_header *items = lvt_arena_zalloc(reader->arena, count * sizeof *items);
    if (!items) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!keep(reader, in->entries[i].key, &items[i].name) ||
            !read_value(reader, &in->entries[i].value, &items[i])) {
            return false;
        }
    }
    *out = (struct lvt_headers){items, count};
    return true;
}

static bool read_array(struct reader *reader, const amqp_array_t *in, struct lvt_headers *out) {
    size_t count = (size_t)in->num_entries;
    struct lvt_header *items = lvt_arena_zalloc(reader->arena, count * sizeof *items);
    if (!items) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        items[i].name = lvt_bytes("", 0);
        if (!read_value(reader, &in->entries[i], &items[i])) {
            return false;
        }
    }
    *out = (struct lvt_headers){items, count};
    return true;
}

static bool read_value(struct reader *reader, const amqp_field_value_t *in,
                       struct lvt_header *out) {
    out->kind = (enum lvt_header_kind)in->kind;
    switch (out->kind) {
    case LVT_HEADER_BOOLEAN:
        out->value.boolean = in->value.boolean != 0;
        return true;
    case LVT_HEADER_INT8:
        out->value.integer = in->value.i8;
        return true;
    case LVT_HEADER_UINT8:
        out->value.unsigned_integer = in->value.u8;
        return true;
    case LVT_HEADER_INT16:
        out->value.integer = in->value.i16;
        return true;
    case LVT_HEADER_UINT16:
        out->value.unsigned_integer = in->value.u16;
        return true;
    case LVT_HEADER_INT32:
        out->value.integer = in->value.i32;
        return true;
    case LVT_HEADER_UINT32:
        out->value.unsigned_integer = in->value.u32;
        return true;
    case LVT_HEADER_INT64:
        out->value.integer = in->value.i64;
        return true;
    case LVT_HEADER_UINT64:
    case LVT_HEADER_TIMESTAMP:
        out->value.unsigned_integer = in->value.u64;
        return true;
    case LVT_HEADER_FLOAT:
        out->value.number = (double)in->value.f32;
        return true;
    case LVT_HEADER_DOUBLE:
        out->value.number = in->value.f64;
        return true;
    case LVT_HEADER_DECIMAL:
        out->value.decimal.decimals = in->value.decimal.decimals;
        out->value.decimal.value = in->value.decimal.value;
        return true;
    case LVT_HEADER_STRING:
    case LVT_HEADER_BYTES:
        return keep(reader, in->value.bytes, &out->value.bytes);
    case LVT_HEADER_ARRAY:
        return read_array(reader, &in->value.array, &out->value.nested);
    case LVT_HEADER_TABLE:
        return read_table(reader, &in->value.table, &out->value.nested);
    case LVT_HEADER_VOID:
        return true;
    }
    out->kind = LVT_HEADER_VOID; /* the library's decoder lets no other kind pass */
    return true;
}

/* The properties that are short strings, with their places in both structs. */
#define TEXTS(XX)                                                                                  \
    XX(CONTENT_TYPE, content_type)                                                                 \
    XX(CONTENT_ENCODING, content_encoding)                                                         \
    XX(CORRELATION_ID, correlation_id)                                                             \
    XX(REPLY_TO, reply_to)                                                                         \
    XX(EXPIRATION, expiration)                                                                     \
    XX(MESSAGE_ID, message_id)                                                                     \
    XX(TYPE, type)                                                                                 \
    XX(USER_ID, user_id)                                                                           \
    XX(APP_ID, app_id)                                                                             \
    XX(CLUSTER_ID, cluster_id)

bool lvt_properties_from_amqp(const amqp_basic_properties_t *in, struct lvt_bytes raw,
                              struct lvt_arena *arena, struct lvt_properties *ret) {
    struct lvt_properties out = {0};
    struct lvt_bytes copy = raw.len > 0 ? lvt_arena_copy(arena, raw) : lvt_bytes("", 0);
    struct reader reader = {.arena = arena, .raw = raw, .copy = copy.data};
    if (!copy.data) {
        return false;
    }
#define XX(flag, field)                                                                            \
    if (in->_flags & AMQP_BASIC_##flag##_FLAG) {                                                   \
        if (!keep(&reader, in->field, &out.field)) {                                               \
            return false;                                                                          \
        }                                                                                          \
        out.present |= LVT_HAS_##flag;                                                             \
    }
    TEXTS(XX)
#undef XX
    if (in->_flags & AMQP_BASIC_DELIVERY_MODE_FLAG) {
        out.present |= LVT_HAS_DELIVERY_MODE;
        out.delivery_mode = in->delivery_mode;
    }
    if (in->_flags & AMQP_BASIC_PRIORITY_FLAG) {
        out.present |= LVT_HAS_PRIORITY;
        out.priority = in->priority;
    }
    if (in->_flags & AMQP_BASIC_TIMESTAMP_FLAG) {
        out.present |= LVT_HAS_TIMESTAMP;
        out.timestamp = in->timestamp;
    }
    if (in->_flags & AMQP_BASIC_HEADERS_FLAG) {
        out.present |= LVT_HAS_HEADERS;
        if (!read_table(&reader, &in->headers, &out.headers)) {
            return false;
        }
    }
    *ret = out;
    return true;
}

/* ---- to the library's types ---- */

struct writer {
    struct lvt_arena *arena;
    size_t size; /* on the wire */
    struct leveret_error *err;
};

static enum leveret_code out_of_memory(struct writer *writer) {
    return leveret_fail(writer->err, LEVERET_NO_MEMORY, "out of memory for a message's headers");
}

static enum leveret_code write_value(struct writer *writer, const struct lvt_header *in,
                                     amqp_field_value_t *out);

static enum leveret_code write_table(struct writer *writer, const struct lvt_headers *in,
                                     amqp_table_t *out) {
    amqp_table_entry_t *entries = lvt_arena_zalloc(writer->arena, in->count * sizeof *entries);
    if (!entries || in->count > INT_MAX) {
        return out_of_memory(writer);
    }
    writer->size += 4;
    for (size_t i = 0; i < in->count; i++) {
        const struct lvt_header *header = &in->items[i];
        if (header->name.len > LVT_SHORT_MAX) {
            return leveret_fail(writer->err, LEVERET_INVALID,
                                "a header's name has %zu bytes; 255 is the protocol's limit",
                                header->name.len);
        }
        writer->size += 1 + header->name.len;
        entries[i].key = lvt_to_amqp(header->name);
        enum leveret_code code = write_value(writer, header, &entries[i].value);
        if (code != LEVERET_OK) {
            return code;
        }
    }
    *out = (amqp_table_t){.num_entries = (int)in->count, .entries = entries};
    return LEVERET_OK;
}

static enum leveret_code write_array(struct writer *writer, const struct lvt_headers *in,
                                     amqp_array_t *out) {
    amqp_field_value_t *entries = lvt_arena_zalloc(writer->arena, in->count * sizeof *entries);
    if (!entries || in->count > INT_MAX) {
        return out_of_memory(writer);
    }
    writer->size += 4;
    for (size_t i = 0; i < in->count; i++) {
        enum leveret_code code = write_value(writer, &in->items[i], &entries[i]);
        if (code != LEVERET_OK) {
            return code;
        }
    }
    *out = (amqp_array_t){.num_entries = (int)in->count, .entries = entries};
    return LEVERET_OK;
}

static void write_number(struct writer *writer, const struct lvt_header *in,
                         amqp_field_value_t *out) {
    size_t size = 8;
    switch (in->kind) {
    case LVT_HEADER_INT8:
        out->value.i8 = (int8_t)in->value.integer;
        size = 1;
        break;
    case LVT_HEADER_UINT8:
        out->value.u8 = (uint8_t)in->value.unsigned_integer;
        size = 1;
        break;
    case LVT_HEADER_INT16:
        out->value.i16 = (int16_t)in->value.integer;
        size = 2;
        break;
    case LVT_HEADER_UINT16:
        out->value.u16 = (uint16_t)in->value.unsigned_integer;
        size = 2;
        break;
    case LVT_HEADER_INT32:
        out->value.i32 = (int32_t)in->value.integer;
        size = 4;
        break;
    case LVT_HEADER_UINT32:
        out->value.u32 = (uint32_t)in->value.unsigned_integer;
        size = 4;
        break;
    case LVT_HEADER_INT64:
        out->value.i64 = in->value.integer;
        break;
    case LVT_HEADER_FLOAT:
        out->value.f32 = (float)in->value.number;
        size = 4;
        break;
    case LVT_HEADER_DOUBLE:
        out->value.f64 = in->value.number;
        break;
    default: /* UINT64, TIMESTAMP */
        out->value.u64 = in->value.unsigned_integer;
        break;
    }
    writer->size += size;
}

static enum leveret_code write_value(struct writer *writer, const struct lvt_header *in,
                                     amqp_field_value_t *out) {
    out->kind = (uint8_t)in->kind;
    writer->size += 1;
    switch (in->kind) {
    case LVT_HEADER_BOOLEAN:
        out->value.boolean = in->value.boolean;
        writer->size += 1;
        return LEVERET_OK;
    case LVT_HEADER_DECIMAL:
        out->value.decimal.decimals = in->value.decimal.decimals;
        out->value.decimal.value = in->value.decimal.value;
        writer->size += 5;
        return LEVERET_OK;
    case LVT_HEADER_STRING:
    case LVT_HEADER_BYTES:
        out->value.bytes = lvt_to_amqp(in->value.bytes);
        writer->size += 4 + in->value.bytes.len;
        return LEVERET_OK;
    case LVT_HEADER_ARRAY:
        return write_array(writer, &in->value.nested, &out->value.array);
    case LVT_HEADER_TABLE:
        return write_table(writer, &in->value.nested, &out->value.table);
    case LVT_HEADER_VOID:
        return LEVERET_OK;
    default:
        write_number(writer, in, out);
        return LEVERET_OK;
    }
}

enum leveret_code lvt_properties_to_amqp(const struct lvt_properties *in, struct lvt_arena *arena,
                                         amqp_basic_properties_t *ret, size_t *ret_size,
                                         struct leveret_error *err) {
    amqp_basic_properties_t out = {0};
    struct writer writer = {.arena = arena, .size = 2, .err = err};
#define XX(flag, field)                                                                            \
    if (in->present & LVT_HAS_##flag) {                                                            \
        if (in->field.len > LVT_SHORT_MAX) {                                                       \
            return leveret_fail(err, LEVERET_INVALID,                                              \
                                "the property " #field                                             \
                                " has %zu bytes; 255 is the protocol's limit",                     \
                                in->field.len);                                                    \
        }                                                                                          \
        out._flags |= AMQP_BASIC_##flag##_FLAG;                                                    \
        out.field = lvt_to_amqp(in->field);                                                        \
        writer.size += 1 + in->field.len;                                                          \
    }
    TEXTS(XX)
#undef XX
    if (in->present & LVT_HAS_DELIVERY_MODE) {
        out._flags |= AMQP_BASIC_DELIVERY_MODE_FLAG;
        out.delivery_mode = in->delivery_mode;
        writer.size += 1;
    }
    if (in->present & LVT_HAS_PRIORITY) {
        out._flags |= AMQP_BASIC_PRIORITY_FLAG;
        out.priority = in->priority;
        writer.size += 1;
    }
    if (in->present & LVT_HAS_TIMESTAMP) {
        out._flags |= AMQP_BASIC_TIMESTAMP_FLAG;
        out.timestamp = in->timestamp;
        writer.size += 8;
    }
    if (in->present & LVT_HAS_HEADERS) {
        out._flags |= AMQP_BASIC_HEADERS_FLAG;
        enum leveret_code code = write_table(&writer, &in->headers, &out.headers);
        if (code != LEVERET_OK) {
            return code;
        }
    }
    *ret = out;
    *ret_size = writer.size;
    return LEVERET_OK;
}
