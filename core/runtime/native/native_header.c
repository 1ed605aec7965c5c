#include "runtime/native/native_header.h"

/* Digits before and behind the point. */
static double decimal_of(const struct lvt_header *header) {
    double number = header->value.decimal.value;
    for (unsigned i = 0; i < header->value.decimal.decimals; i++)
        number /= 10;
    return number;
}

void lvt_native_header_read(const struct lvt_header *from, struct leveret_header *to) {
    *to = (struct leveret_header){.name = {from->name.data, from->name.len}};
    switch (from->kind) {
    case LVT_HEADER_BOOLEAN:
        to->kind = LEVERET_HEADER_BOOLEAN;
        to->integer = from->value.boolean;
        break;
    case LVT_HEADER_INT8:
    case LVT_HEADER_INT16:
    case LVT_HEADER_INT32:
    case LVT_HEADER_INT64:
        to->kind = LEVERET_HEADER_INTEGER;
        to->integer = from->value.integer;
        break;
    case LVT_HEADER_UINT8:
    case LVT_HEADER_UINT16:
    case LVT_HEADER_UINT32:
    case LVT_HEADER_UINT64:
    case LVT_HEADER_TIMESTAMP:
        to->kind = from->value.unsigned_integer <= INT64_MAX ? LEVERET_HEADER_INTEGER
                                                             : LEVERET_HEADER_NUMBER;
        to->integer = (int64_t)from->value.unsigned_integer;
        to->number = (double)from->value.unsigned_integer;
        break;
    case LVT_HEADER_FLOAT:
    case LVT_HEADER_DOUBLE:
        to->kind = LEVERET_HEADER_NUMBER;
        to->number = from->value.number;
        break;
    case LVT_HEADER_DECIMAL:
        to->kind = LEVERET_HEADER_NUMBER;
        to->number = decimal_of(from);
        break;
    case LVT_HEADER_STRING:
    case LVT_HEADER_BYTES:
        to->kind = LEVERET_HEADER_TEXT;
        to->text = (struct leveret_text){from->value.bytes.data, from->value.bytes.len};
        break;
    case LVT_HEADER_ARRAY:
    case LVT_HEADER_TABLE:
        to->kind = LEVERET_HEADER_NESTED;
        break;
    case LVT_HEADER_VOID:
        to->kind = LEVERET_HEADER_VOID;
        break;
    }
}

struct lvt_header lvt_native_header_of(const struct leveret_header *from) {
    struct lvt_header header = {.name = lvt_bytes(from->name.data, from->name.len),
                                .kind = LVT_HEADER_VOID};
    switch (from->kind) {
    case LEVERET_HEADER_BOOLEAN:
        header.kind = LVT_HEADER_BOOLEAN;
        header.value.boolean = from->integer != 0;
        break;
    case LEVERET_HEADER_INTEGER:
        header.kind = LVT_HEADER_INT64;
        header.value.integer = from->integer;
        break;
    case LEVERET_HEADER_NUMBER:
        header.kind = LVT_HEADER_DOUBLE;
        header.value.number = from->number;
        break;
    case LEVERET_HEADER_TEXT:
        header.kind = LVT_HEADER_STRING;
        header.value.bytes = lvt_bytes(from->text.data, from->text.len);
        break;
    default:
        break;
    }
    return header;
}
