/* What a lane has under way, in memory that outlives it: when it dies, its supervisor reads here
 * which event was to blame. One thread writes each part, and nothing here makes a system call. */
#ifndef LEVERET_BLACKBOX_BLACKBOX_H
#define LEVERET_BLACKBOX_BLACKBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/error.h"
#include "blackbox/charges.h"

/* Threads that handlers run on: the loop's, which has the first, and those of blocking plugins. */
#define LVT_SEATS_MAX 256
/* Events whose handlers have begun and not ended; more of them go unrecorded. */
#define LVT_RUNNING_MAX 16384
/* Acquittals that the supervisor has not read; more of them are forgotten. */
#define LVT_PARDONS_MAX 4096

/* An event, as far as its supervisor needs to know it. Texts are cut. */
struct lvt_subject {
    unsigned char key[LVT_CHARGE_KEY_BYTES];
    uint32_t attempt;
    bool suspect; /* it runs alone */
    char handler[64], type[64], id[96];
};

struct lvt_running {
    struct lvt_subject subject;
    uint32_t next;    /* of the unused ones: a row's number, plus one */
    atomic_bool used; /* the subject is whole */
};

/* A thread that may have an event on it. */
struct lvt_seat {
    struct lvt_subject subject;
    uint64_t limit_ms;     /* how long it may stay */
    _Atomic uint32_t turn; /* odd: the subject is on the processor */
    atomic_bool taken;
};

/* What a seat that is not one stands for, in the culprit's place. */
#define LVT_CULPRIT_UNKNOWN 0 /* nothing was written: the process was killed, or left by _exit */
#define LVT_CULPRIT_NOBODY (-1)

struct lvt_blackbox {
    pid_t pid; /* of the process that opened it: its forks are not it */
    uint64_t hard_timeout_ms;
    _Atomic uint32_t beats;     /* go up as long as the loop turns */
    _Atomic uint32_t in_flight; /* events whose handlers have begun and which are not settled */
    _Atomic uint32_t reloads;   /* of handlers, that were asked for and are done */
    atomic_bool ready;          /* every service is there, and every queue is consumed */
    atomic_bool ended; /* the process ends because the lane has, not because of a handler */
    struct leveret_error failure; /* why it ended; code 0: as asked */
    char opening[64];             /* the handler whose plugin is in its `open`, or empty */
    _Atomic int32_t culprit;      /* the seat's number plus one, or one of the above */
    struct lvt_seat seats[LVT_SEATS_MAX];
    _Atomic uint32_t running_top; /* rows that were ever used */
    uint32_t unused;              /* the first row of those used before, plus one */
    struct lvt_running running[LVT_RUNNING_MAX];
    _Atomic uint32_t pardoned; /* how many, ever: their keys go round in the ring */
    unsigned char pardons[LVT_PARDONS_MAX][LVT_CHARGE_KEY_BYTES];
};

/* What a lane has of its supervisor. */
struct lvt_post {
    unsigned number; /* from 1 */
    unsigned count;
    struct lvt_blackbox *box;
    const struct lvt_charges *charges;
    int line; /* a socket: the supervisor asks for a report, and the lane answers */
};

/* As for a lane that has not begun. Called while there is none. */
void lvt_blackbox_reset(struct lvt_blackbox *box, uint64_t hard_timeout_ms);

/* ---- the lane's side ---- */

/* Has this process's crashes written down: signals that a fault raises. The box outlives the
 * process; the calling thread takes the first seat. Once. */
void lvt_blackbox_open(struct lvt_blackbox *box);

/* A handler's plugin begins to open; "": it has. Nothing without a box. */
void lvt_blackbox_opening(const char *handler);

/* And exit(), which ends an open box's process at once. Once, and after the libraries have begun:
 * what is registered last runs first, and OpenSSL's own would free what other threads use. A
 * destructor that a plugin registers later still, in a handler, runs before it. */
void lvt_blackbox_expect_exit(void);

/* A seat for a thread, and a stack for its signal handlers; NULL when there is none, which leave
 * takes. Called by that thread. */
struct lvt_seat *lvt_blackbox_sit(struct lvt_blackbox *box);
void lvt_blackbox_stand(struct lvt_seat *seat);

/* A row for an event whose handler begins; NULL when there is none. By the loop's thread, as is the
 * next one. */
struct lvt_running *lvt_blackbox_begin(struct lvt_blackbox *box);
void lvt_blackbox_end(struct lvt_blackbox *box, struct lvt_running *row);

void lvt_subject_fill(struct lvt_subject *subject, struct lvt_bytes handler, struct lvt_bytes type,
                      struct lvt_bytes id);

/* The event's handler gets control, and gives it back. */
static inline void lvt_seat_enter(struct lvt_seat *seat, const struct lvt_subject *subject,
                                  uint64_t limit_ms) {
    seat->subject = *subject;
    seat->limit_ms = limit_ms;
    atomic_fetch_add_explicit(&seat->turn, 1, memory_order_release);
}

static inline void lvt_seat_leave(struct lvt_seat *seat) {
    atomic_fetch_add_explicit(&seat->turn, 1, memory_order_release);
}

static inline bool lvt_seat_busy(const struct lvt_seat *seat) {
    return atomic_load_explicit(&seat->turn, memory_order_acquire) & 1;
}

/* The event has shown that it does no harm, or is settled. By the loop's thread. */
void lvt_blackbox_pardon(struct lvt_blackbox *box, const unsigned char *key);

#endif
