#include "event/carry.h"

/* The most headers that moved properties become. */
#define MOVED_MAX 2

static bool starts_with(struct lvt_bytes name, const char *prefix) {
    size_t len = strlen(prefix);
    return name.len >= len && memcmp(name.data, prefix, len) == 0;
}

static bool is_history(struct lvt_bytes name) {
    return lvt_bytes_is(name, "x-death") || lvt_bytes_is(name, "x-delivery-count") ||
           starts_with(name, "x-first-death-") || starts_with(name, "x-last-death-");
}

void lvt_headers_add_text(struct lvt_headers *headers, const char *name, struct lvt_bytes text) {
    headers->items[headers->count++] = (struct lvt_header){
        .name = lvt_bytes_of(name), .kind = LVT_HEADER_STRING, .value.bytes = text};
}

void lvt_headers_add_integer(struct lvt_headers *headers, const char *name, int64_t integer) {
    headers->items[headers->count++] = (struct lvt_header){
        .name = lvt_bytes_of(name), .kind = LVT_HEADER_INT64, .value.integer = integer};
}

bool lvt_properties_carry(const struct lvt_properties *in, size_t room, struct lvt_arena *arena,
                          struct lvt_properties *ret) {
    struct lvt_properties out = *in;
    out.headers = (struct lvt_headers){0};
    size_t most = in->headers.count + MOVED_MAX + room;
    out.headers.items = lvt_arena_alloc(arena, most * sizeof *out.headers.items);
    if (!out.headers.items)
        return false;
    for (size_t i = 0; i < in->headers.count; i++) {
        struct lvt_header header = in->headers.items[i];
        if (is_history(header.name))
            continue;
        if (lvt_bytes_is(header.name, "CC"))
            header.name = LVT_LITERAL("leveret-origin-cc");
        if (lvt_bytes_is(header.name, "BCC"))
            header.name = LVT_LITERAL("leveret-origin-bcc");
        out.headers.items[out.headers.count++] = header;
    }
    if (in->present & LVT_HAS_USER_ID)
        lvt_headers_add_text(&out.headers, "leveret-origin-user-id", in->user_id);
    if (in->present & LVT_HAS_EXPIRATION)
        lvt_headers_add_text(&out.headers, "leveret-origin-expiration", in->expiration);
    out.present &= ~(unsigned)(LVT_HAS_USER_ID | LVT_HAS_EXPIRATION);
    out.present |= LVT_HAS_DELIVERY_MODE | LVT_HAS_HEADERS;
    out.delivery_mode = 2;
    *ret = out;
    return true;
}
