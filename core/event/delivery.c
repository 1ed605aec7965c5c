#include "event/delivery.h"

struct lvt_delivery *lvt_delivery_new(size_t hint) {
    struct lvt_arena arena;
    if (hint > SIZE_MAX / 2) {
        return NULL;
    }
    lvt_arena_init(&arena, hint + sizeof(struct lvt_delivery) + _Alignof(max_align_t));
    struct lvt_delivery *delivery = lvt_arena_zalloc(&arena, sizeof *delivery);
    if (!delivery) {
        return NULL;
    }
    delivery->arena = arena;
    return delivery;
}

void lvt_delivery_free(struct lvt_delivery *delivery) {
    if (!delivery || atomic_fetch_sub(&delivery->holds, 1) > 0) {
        return;
    }
    struct lvt_arena arena = delivery->arena; /* which holds the delivery itself */
    lvt_arena_free(&arena);
}

void lvt_delivery_hold(struct lvt_delivery *delivery) {
    atomic_fetch_add(&delivery->holds, 1);
}
