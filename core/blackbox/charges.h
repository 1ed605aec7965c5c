/* Events that have ended a lane, or may have: written by the supervisor, read by every lane, in
 * memory that they share. */
#ifndef LEVERET_BLACKBOX_CHARGES_H
#define LEVERET_BLACKBOX_CHARGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LVT_CHARGE_KEY_BYTES 16
#define LVT_CHARGES_MAX 4096

/* How a lane ended. */
enum lvt_death {
    LVT_DEATH_SIGNAL, /* detail: its number */
    LVT_DEATH_EXIT,   /* detail: the status */
    LVT_DEATH_HANG,   /* stopped, because a handler did not come back */
};

struct lvt_charge {
    unsigned char key[LVT_CHARGE_KEY_BYTES];
    uint32_t attempt; /* the last one that was charged; 0: none, the event is only a suspect */
    uint32_t crashes;
    int32_t detail;
    uint8_t death; /* enum lvt_death, of the last one */
    bool used;
};

#define LVT_CHARGE_SLOTS (2 * LVT_CHARGES_MAX)

struct lvt_charges {
    _Atomic uint32_t version; /* odd while it is being written */
    _Atomic uint32_t count;
    struct lvt_charge slots[LVT_CHARGE_SLOTS]; /* by key, in the next free one */
};

/* False when there is none. From any process and thread. */
bool lvt_charges_find(const struct lvt_charges *charges, const unsigned char *key,
                      struct lvt_charge *ret_charge);

/* Replaces all of them. By the supervisor. */
void lvt_charges_publish(struct lvt_charges *charges, const struct lvt_charge *list, size_t count);

/* "SIGSEGV", "exit(3)", ... */
#define LVT_DEATH_TEXT 32
void lvt_death_text(enum lvt_death death, int detail, char ret_text[LVT_DEATH_TEXT]);

#endif
