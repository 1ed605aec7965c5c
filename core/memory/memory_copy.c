#include "memory/memory_copy.h"

/* A table whose items are still the source's. Headers come nested thousands deep: copying them must
 * not recurse. */
struct pending {
    struct pending *next;
    struct lvt_headers *headers;
};

static bool copy_bytes(struct lvt_arena *arena, struct lvt_bytes *bytes) {
    if (!bytes->data)
        return true;
    struct lvt_bytes copy = lvt_arena_copy(arena, *bytes);
    if (!copy.data)
        return false;
    *bytes = copy;
    return true;
}

static bool push(struct lvt_arena *arena, struct pending **stack, struct lvt_headers *headers) {
    if (headers->count == 0)
        return true;
    struct pending *pending = lvt_arena_alloc(arena, sizeof *pending);
    if (!pending)
        return false;
    *pending = (struct pending){*stack, headers};
    *stack = pending;
    return true;
}

static bool copy_items(struct lvt_arena *arena, struct pending **stack,
                       struct lvt_headers *headers) {
    size_t size = headers->count * sizeof *headers->items;
    struct lvt_header *items = lvt_arena_alloc(arena, size);
    if (!items)
        return false;
    memcpy(items, headers->items, size);
    headers->items = items;
    for (size_t i = 0; i < headers->count; i++) {
        struct lvt_header *item = &items[i];
        bool copied = copy_bytes(arena, &item->name);
        if (item->kind == LVT_HEADER_STRING || item->kind == LVT_HEADER_BYTES)
            copied = copied && copy_bytes(arena, &item->value.bytes);
        if (item->kind == LVT_HEADER_TABLE || item->kind == LVT_HEADER_ARRAY)
            copied = copied && push(arena, stack, &item->value.nested);
        if (!copied)
            return false;
    }
    return true;
}

enum leveret_code lvt_memory_copy_properties(struct lvt_arena *arena,
                                             const struct lvt_properties *from,
                                             struct lvt_properties *ret) {
    struct lvt_properties copy = *from;
    struct lvt_bytes *texts[] = {
        &copy.content_type, &copy.content_encoding, &copy.correlation_id, &copy.reply_to,
        &copy.expiration,   &copy.message_id,       &copy.type,           &copy.user_id,
        &copy.app_id,       &copy.cluster_id,
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (!copy_bytes(arena, texts[i]))
            return LEVERET_NO_MEMORY;
    struct pending *stack = NULL;
    if (!push(arena, &stack, &copy.headers))
        return LEVERET_NO_MEMORY;
    while (stack) {
        struct lvt_headers *headers = stack->headers;
        stack = stack->next;
        if (!copy_items(arena, &stack, headers))
            return LEVERET_NO_MEMORY;
    }
    *ret = copy;
    return LEVERET_OK;
}
