#include "base/arena.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define ALIGNMENT _Alignof(max_align_t)
#define FIRST_SIZE_MIN 256

struct lvt_arena_block {
    struct lvt_arena_block *next; /* older */
    _Alignas(max_align_t) char data[];
};

void lvt_arena_init(struct lvt_arena *arena, size_t hint) {
    /* Until there is a block, `size` keeps the hint, and `used` equals it: there is no room. */
    size_t size = hint < FIRST_SIZE_MIN ? FIRST_SIZE_MIN : hint;
    *arena = (struct lvt_arena){.used = size, .size = size};
}

void lvt_arena_free(struct lvt_arena *arena) {
    if (!arena) {
        return;
    }
    struct lvt_arena_block *block = arena->blocks;
    lvt_arena_init(arena, 0);
    while (block) {
        struct lvt_arena_block *next = block->next;
        free(block);
        block = next;
    }
}

static struct lvt_arena_block *new_block(size_t size) {
    if (size > SIZE_MAX - sizeof(struct lvt_arena_block)) {
        return NULL;
    }
    return malloc(sizeof(struct lvt_arena_block) + size);
}

/* For what has no room in the newest block. */
static void *alloc_outside(struct lvt_arena *arena, size_t size) {
    if (arena->blocks && size > arena->size / 2) {
        /* Too much to begin a block with: it gets its own, and the newest one goes on. */
        struct lvt_arena_block *own = new_block(size);
        if (!own) {
            return NULL;
        }
        own->next = arena->blocks->next;
        arena->blocks->next = own;
        return own->data;
    }
    size_t block_size = size > arena->size ? size : arena->size;
    struct lvt_arena_block *block = new_block(block_size);
    if (!block) {
        return NULL;
    }
    block->next = arena->blocks;
    arena->blocks = block;
    arena->used = size;
    arena->size = block_size;
    return block->data;
}

void *lvt_arena_alloc(struct lvt_arena *arena, size_t size) {
    if (size > SIZE_MAX - ALIGNMENT) {
        return NULL;
    }
    size = (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    if (!arena->blocks || size > arena->size - arena->used) {
        return alloc_outside(arena, size);
    }
    char *data = arena->blocks->data + arena->used;
    arena->used += size;
    return data;
}

void *lvt_arena_zalloc(struct lvt_arena *arena, size_t size) {
    void *data = lvt_arena_alloc(arena, size);
    return data ? memset(data, 0, size) : NULL;
}

struct lvt_bytes lvt_arena_copy(struct lvt_arena *arena, struct lvt_bytes bytes) {
    char *data = bytes.len < SIZE_MAX ? lvt_arena_alloc(arena, bytes.len + 1) : NULL;
    if (!data) {
        return (struct lvt_bytes){NULL, 0};
    }
    if (bytes.len > 0) {
        memcpy(data, bytes.data, bytes.len);
    }
    data[bytes.len] = '\0';
    return lvt_bytes(data, bytes.len);
}

char *lvt_arena_printf(struct lvt_arena *arena, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = len < 0 ? NULL : lvt_arena_alloc(arena, (size_t)len + 1);
    if (text) {
        vsnprintf(text, (size_t)len + 1, format, again);
    }
    va_end(again);
    return text;
}
