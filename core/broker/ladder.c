#include "broker/ladder.h"

#include <inttypes.h>
#include <stdio.h>

#define HASH_SIZE 17

/* FNV-1a, 64 bits. */
static void hash_name(struct lvt_bytes name, char out[HASH_SIZE]) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < name.len; i++) {
        hash ^= (unsigned char)name.data[i];
        hash *= UINT64_C(0x100000001b3);
    }
    snprintf(out, HASH_SIZE, "%016" PRIx64, hash);
}

uint32_t lvt_ladder_ticks(uint64_t delay_ms) {
    uint64_t ticks = delay_ms / LVT_LADDER_TICK_MS + (delay_ms % LVT_LADDER_TICK_MS != 0);
    return ticks > LVT_LADDER_TICKS_MAX ? LVT_LADDER_TICKS_MAX : (uint32_t)ticks;
}

static enum lvt_ladder_step step_at(uint32_t ticks, unsigned level) {
    if ((ticks >> level) & 1) {
        return LVT_LADDER_WAIT;
    }
    return ticks & ((UINT32_C(1) << level) - 1) ? LVT_LADDER_PASS : LVT_LADDER_LEAVE;
}

bool lvt_ladder_enter(uint64_t delay_ms, struct lvt_bytes queue, struct lvt_ladder_entry *ret) {
    uint32_t ticks = lvt_ladder_ticks(delay_ms);
    if (ticks == 0) {
        return false;
    }
    unsigned level = 0;
    while (ticks >> (level + 1)) {
        level++;
    }
    lvt_ladder_name(level, ret->exchange);
    char *at = ret->routing_key;
    for (unsigned i = 0; i <= level; i++) {
        *at++ = (char)step_at(ticks, i);
        *at++ = '.';
    }
    hash_name(queue, at);
    return true;
}

void lvt_ladder_name(unsigned level, char name[LVT_LADDER_NAME_SIZE]) {
    snprintf(name, LVT_LADDER_NAME_SIZE, "leveret.delay.%02u", level);
}

uint32_t lvt_ladder_ttl_ms(unsigned level) {
    return (uint32_t)LVT_LADDER_TICK_MS << level;
}

void lvt_ladder_pattern(unsigned level, enum lvt_ladder_step step, char key[LVT_LADDER_KEY_SIZE]) {
    char *at = key;
    for (unsigned i = 0; i < level; i++) {
        *at++ = '*';
        *at++ = '.';
    }
    *at++ = (char)step;
    memcpy(at, ".#", sizeof ".#");
}

void lvt_ladder_end_pattern(struct lvt_bytes queue, char key[LVT_LADDER_KEY_SIZE]) {
    memcpy(key, "#.", 2);
    hash_name(queue, key + 2);
}
