#include "event/headers.h"

const struct lvt_header *lvt_headers_find(const struct lvt_headers *headers, const char *name) {
    struct lvt_bytes wanted = lvt_bytes_of(name);
    for (size_t i = 0; i < headers->count; i++) {
        if (lvt_bytes_equal(headers->items[i].name, wanted)) {
            return &headers->items[i];
        }
    }
    return NULL;
}

/* Digits, with leading zeros or without, and perhaps a minus before them. */
static bool parse_integer(struct lvt_bytes text, int64_t *ret_value) {
    bool negative = text.len > 0 && text.data[0] == '-';
    size_t at = negative ? 1 : 0;
    if (at == text.len) {
        return false;
    }
    int64_t value = 0;
    for (; at < text.len; at++) {
        char c = text.data[at];
        if (c < '0' || c > '9' || __builtin_mul_overflow(value, 10, &value) ||
            (negative ? __builtin_sub_overflow(value, c - '0', &value)
                      : __builtin_add_overflow(value, c - '0', &value))) {
            return false;
        }
    }
    *ret_value = value;
    return true;
}

bool lvt_header_integer(const struct lvt_header *header, int64_t *ret_value) {
    if (!header)
        return false;
    switch (header->kind) {
    case LVT_HEADER_INT8:
    case LVT_HEADER_INT16:
    case LVT_HEADER_INT32:
    case LVT_HEADER_INT64:
        *ret_value = header->value.integer;
        return true;
    case LVT_HEADER_UINT8:
    case LVT_HEADER_UINT16:
    case LVT_HEADER_UINT32:
    case LVT_HEADER_UINT64:
        if (header->value.unsigned_integer > INT64_MAX) {
            return false;
        }
        *ret_value = (int64_t)header->value.unsigned_integer;
        return true;
    case LVT_HEADER_STRING:
        return parse_integer(header->value.bytes, ret_value);
    default:
        return false;
    }
}

/* Recurses, `limit` levels at most. */
size_t lvt_headers_depth(const struct lvt_headers *headers, size_t limit) {
    size_t deepest = 0;
    for (size_t i = 0; i < headers->count && deepest <= limit; i++) {
        const struct lvt_header *header = &headers->items[i];
        if (header->kind != LVT_HEADER_TABLE && header->kind != LVT_HEADER_ARRAY) {
            continue;
        }
        size_t below = limit > 0 ? lvt_headers_depth(&header->value.nested, limit - 1) : 0;
        if (deepest < 1 + below) {
            deepest = 1 + below;
        }
    }
    return deepest;
}
