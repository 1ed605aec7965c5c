/* Memory that is given back all at once: everything that belongs to one delivery lives in one. */
#ifndef LEVERET_BASE_ARENA_H
#define LEVERET_BASE_ARENA_H

#include <stddef.h>

#include "base/bytes.h"

struct lvt_arena_block;

struct lvt_arena {
    struct lvt_arena_block *blocks;
    size_t used; /* in the newest block */
    size_t size; /* of the newest block */
};

/* The first block is made at the first allocation; `hint` is the size that it gets, in bytes. */
void lvt_arena_init(struct lvt_arena *arena, size_t hint);
void lvt_arena_free(struct lvt_arena *arena);

/* Aligned for any type, not zeroed; NULL when out of memory. */
void *lvt_arena_alloc(struct lvt_arena *arena, size_t size);
/* Zeroed. */
void *lvt_arena_zalloc(struct lvt_arena *arena, size_t size);
/* A NUL-terminated copy; data is NULL when out of memory. */
struct lvt_bytes lvt_arena_copy(struct lvt_arena *arena, struct lvt_bytes bytes);
char *lvt_arena_printf(struct lvt_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
