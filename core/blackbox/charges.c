#include "blackbox/charges.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* A table is written in well under a millisecond; its writer may have been put aside meanwhile. */
#define TRIES_MAX 10000

static size_t slot_of(const unsigned char *key) {
    size_t hash;
    memcpy(&hash, key, sizeof hash); /* a key is a cryptographic hash already */
    return hash % LVT_CHARGE_SLOTS;
}

/* In a table that may be changing under our eyes: what is found counts only if it was not. */
static bool look(const struct lvt_charges *charges, const unsigned char *key,
                 struct lvt_charge *ret_charge) {
    size_t at = slot_of(key);
    for (size_t i = 0; i < LVT_CHARGE_SLOTS; i++, at = (at + 1) % LVT_CHARGE_SLOTS) {
        struct lvt_charge charge = charges->slots[at];
        if (!charge.used)
            return false;
        if (memcmp(charge.key, key, sizeof charge.key) == 0) {
            *ret_charge = charge;
            return true;
        }
    }
    return false;
}

bool lvt_charges_find(const struct lvt_charges *charges, const unsigned char *key,
                      struct lvt_charge *ret_charge) {
    struct lvt_charge charge;
    for (int i = 0; i < TRIES_MAX; i++) {
        uint32_t before = atomic_load_explicit(&charges->version, memory_order_acquire);
        if (before & 1) {
            sched_yield();
            continue;
        }
        if (atomic_load_explicit(&charges->count, memory_order_relaxed) == 0)
            return false;
        bool found = look(charges, key, &charge);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&charges->version, memory_order_relaxed) != before)
            continue;
        if (found)
            *ret_charge = charge;
        return found;
    }
    return false;
}

void lvt_charges_publish(struct lvt_charges *charges, const struct lvt_charge *list, size_t count) {
    atomic_fetch_add_explicit(&charges->version, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    memset(charges->slots, 0, sizeof charges->slots);
    for (size_t i = 0; i < count; i++) {
        size_t at = slot_of(list[i].key);
        while (charges->slots[at].used)
            at = (at + 1) % LVT_CHARGE_SLOTS;
        charges->slots[at] = list[i];
        charges->slots[at].used = true;
    }
    atomic_store_explicit(&charges->count, (uint32_t)count, memory_order_relaxed);
    atomic_fetch_add_explicit(&charges->version, 1, memory_order_release);
}

void lvt_death_text(enum lvt_death death, int detail, char ret_text[LVT_DEATH_TEXT]) {
    const char *name = death == LVT_DEATH_SIGNAL ? sigabbrev_np(detail) : NULL;
    switch (death) {
    case LVT_DEATH_SIGNAL:
        if (name)
            snprintf(ret_text, LVT_DEATH_TEXT, "SIG%s", name);
        else
            snprintf(ret_text, LVT_DEATH_TEXT, "signal %d", detail);
        break;
    case LVT_DEATH_EXIT:
        snprintf(ret_text, LVT_DEATH_TEXT, "exit(%d)", detail);
        break;
    case LVT_DEATH_HANG:
        snprintf(ret_text, LVT_DEATH_TEXT, "it did not come back");
        break;
    }
}
