/* A ledger inside the process: for `leveret run --embedded`, unit tests and simulation. Its records
 * last as long as it does, and it runs no SQL. */
#ifndef LEVERET_MEMORY_MEMORY_LEDGER_H
#define LEVERET_MEMORY_MEMORY_LEDGER_H

#include "base/error.h"
#include "engine/ports.h"

/* Records that are remembered: over it, the oldest goes. */
#define LVT_MEMORY_RECORDS_MAX 1000000

struct lvt_memory_ledger;

/* LEVERET_NO_MEMORY is the only error. */
enum leveret_code lvt_memory_ledger_new(struct lvt_ledger_sink sink,
                                        struct lvt_memory_ledger **ret_ledger,
                                        struct leveret_error *err) LVT_MUST_CHECK;
/* Touches no claim: their events may be gone already. Open transactions are rolled back. NULL is
 * fine. */
void lvt_memory_ledger_free(struct lvt_memory_ledger *ledger);
struct lvt_ledger_port lvt_memory_ledger_port(struct lvt_memory_ledger *ledger);

/* Hands all answers to their askers. */
void lvt_memory_ledger_poll(struct lvt_memory_ledger *ledger);
/* Whether poll has something to hand over. */
bool lvt_memory_ledger_pending(const struct lvt_memory_ledger *ledger);

/* ---- for tests and simulation ---- */

/* Away, claims and records wait; transactions that are open then end in an outage. */
void lvt_memory_ledger_set_ready(struct lvt_memory_ledger *ledger, bool ready);
/* Another worker takes a claim of this key; or ends it, with a record or without. */
enum leveret_code lvt_memory_ledger_other_claims(struct lvt_memory_ledger *ledger,
                                                 const unsigned char key[LVT_KEY_BYTES]);
void lvt_memory_ledger_other_ends(struct lvt_memory_ledger *ledger,
                                  const unsigned char key[LVT_KEY_BYTES], bool record);

struct lvt_memory_ledger_status {
    size_t records, held, asked, recording, transactions;
};
void lvt_memory_ledger_status(const struct lvt_memory_ledger *ledger,
                              struct lvt_memory_ledger_status *ret_status);
bool lvt_memory_ledger_has(const struct lvt_memory_ledger *ledger,
                           const unsigned char key[LVT_KEY_BYTES]);

#endif
