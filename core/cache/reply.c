#include "cache/private.h"

/* hiredis 0.14 stops at 7 levels by itself; newer ones follow any depth. */
#define DEPTH_MAX 16

static enum leveret_code convert(const redisReply *from, struct lvt_arena *arena, unsigned depth,
                                 struct lvt_reply *to) {
    if (depth > DEPTH_MAX)
        return LEVERET_TOO_BIG;
    *to = (struct lvt_reply){.integer = from->integer, .text = lvt_bytes(from->str, from->len)};
    switch (from->type) {
    case REDIS_REPLY_NIL:
        to->kind = LVT_REPLY_NIL;
        break;
    case REDIS_REPLY_STATUS:
        to->kind = LVT_REPLY_STATUS;
        break;
    case REDIS_REPLY_INTEGER:
        to->kind = LVT_REPLY_INTEGER;
        break;
    case REDIS_REPLY_ERROR:
        to->kind = LVT_REPLY_ERROR;
        break;
    case REDIS_REPLY_ARRAY:
        to->kind = LVT_REPLY_ARRAY;
        to->count = from->elements;
        if (to->count == 0)
            break;
        to->items = lvt_arena_alloc(arena, to->count * sizeof *to->items);
        if (!to->items)
            return LEVERET_NO_MEMORY;
        for (size_t i = 0; i < to->count; i++) {
            enum leveret_code code = convert(from->element[i], arena, depth + 1, &to->items[i]);
            if (code)
                return code;
        }
        break;
    default: /* RESP3's other kinds need a HELLO, which nobody may send */
        to->kind = LVT_REPLY_STRING;
    }
    return LEVERET_OK;
}

enum leveret_code lvt_reply_convert(const redisReply *from, struct lvt_arena *arena,
                                    struct lvt_reply *ret_reply) {
    struct lvt_reply reply;
    enum leveret_code code = convert(from, arena, 0, &reply);
    if (!code)
        *ret_reply = reply;
    return code;
}
