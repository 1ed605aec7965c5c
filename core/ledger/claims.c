/* The claims that a ledger knows, each on one list at a time. */
#include "ledger/state.h"

void lvt_claims_append(struct lvt_claims *claims, struct lvt_claim *claim,
                       enum lvt_claim_phase phase) {
    claim->phase = (unsigned char)phase;
    claim->held_next = NULL;
    claim->held_prev = claims->last;
    if (claims->last)
        claims->last->held_next = claim;
    else
        claims->first = claim;
    claims->last = claim;
    claims->count++;
}

void lvt_claims_remove(struct lvt_claims *claims, struct lvt_claim *claim) {
    if (claim->held_prev)
        claim->held_prev->held_next = claim->held_next;
    else
        claims->first = claim->held_next;
    if (claim->held_next)
        claim->held_next->held_prev = claim->held_prev;
    else
        claims->last = claim->held_prev;
    claim->held_prev = claim->held_next = NULL;
    claim->phase = LVT_PHASE_NONE;
    claims->count--;
}

int64_t lvt_claims_lock_key(const unsigned char key[LVT_KEY_BYTES]) {
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | key[i];
    return (int64_t)value;
}

void lvt_claims_unlock(struct lvt_ledger *ledger, const unsigned char key[LVT_KEY_BYTES]) {
    /* without a session its locks are gone; more unlocks than locks there can never be */
    if (ledger->session < LVT_SESSION_LOCKING || ledger->unlock_count == ledger->options.max_claims)
        return;
    ledger->unlocks[ledger->unlock_count++] = lvt_claims_lock_key(key);
    lvt_ledger_soon(ledger);
}

void lvt_claims_ask(void *self, struct lvt_claim *list) {
    struct lvt_ledger *ledger = self;
    while (list) {
        struct lvt_claim *next = list->next;
        list->held = false;
        lvt_claims_append(&ledger->waiting, list, LVT_PHASE_WAITING);
        list = next;
    }
    lvt_ledger_soon(ledger);
}

void lvt_claims_record(void *self, struct lvt_claim *list) {
    struct lvt_ledger *ledger = self;
    while (list) {
        struct lvt_claim *next = list->next;
        if (list->phase == LVT_PHASE_HELD)
            lvt_claims_remove(&ledger->held, list);
        if (list->phase == LVT_PHASE_NONE)
            lvt_claims_append(&ledger->to_record, list, LVT_PHASE_TO_RECORD);
        list = next;
    }
    lvt_ledger_soon(ledger);
}

static void give_up_lock(struct lvt_ledger *ledger, struct lvt_claim *claim) {
    if (claim->held)
        lvt_claims_unlock(ledger, claim->key);
    claim->held = false;
}

void lvt_claims_end(struct lvt_ledger *ledger, struct lvt_claim *claim) {
    if (claim->phase != LVT_PHASE_HELD)
        return;
    lvt_claims_remove(&ledger->held, claim);
    give_up_lock(ledger, claim);
}

void lvt_claims_release(void *self, struct lvt_claim *claim) {
    struct lvt_ledger *ledger = self;
    switch ((enum lvt_claim_phase)claim->phase) {
    case LVT_PHASE_NONE:
        return;
    case LVT_PHASE_WAITING:
        lvt_claims_remove(&ledger->waiting, claim);
        return;
    case LVT_PHASE_ASKING: /* the round gives the lock up when it has got it */
        ledger->round.claims.items[claim->slot].claim = NULL;
        claim->phase = LVT_PHASE_NONE;
        return;
    case LVT_PHASE_HELD:
        lvt_tx_claim_released(ledger, claim);
        lvt_claims_end(ledger, claim);
        return;
    case LVT_PHASE_TO_RECORD:
        lvt_claims_remove(&ledger->to_record, claim);
        give_up_lock(ledger, claim);
        return;
    case LVT_PHASE_RECORDING: /* the round gives the lock up when the insert is over */
        ledger->round.records.items[claim->slot].claim = NULL;
        lvt_claims_remove(&ledger->recording, claim);
        return;
    }
}
