/* The round trips of the session that holds the locks: one at a time, each with all that has
 * gathered during the one before. Its statements, in this order:
 *
 *   unlock  what ended since the last round. Never in the round that records it: the lock has to
 *           outlive the commit, or another worker looks the key up too early and runs the event.
 *   lock    the keys of new claims.
 *   look up the same keys, by a statement of its own: its snapshot has to be younger than the
 *           locks.
 *   insert  records. None is there already, but for one whose answer was lost, or whose event
 *           another worker took when a session was lost: with ON CONFLICT each row would be looked
 *           up and marked for nothing, so that it is used only after a batch ran into one.
 *
 * All are one transaction, because the server ends each with a send, which wakes us, and with a
 * walk over all the session's locks; these come and go whatever becomes of it. What fails before
 * the insert is no failure of the records: they are only tried again. Claims are answered as soon
 * as the look-up is, while the server is still writing the records. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "event/key.h"
#include "ledger/state.h"

#define ROUND_MAX 1000 /* claims, and records, of one round */
#define ROUND_DEADLINE_MS 30000
#define SPLIT_PAUSE_MS 20
#define LOCKS_OUT_MS 30000
/* Locks to give up do not begin a round before they are so many, or have waited so long: whoever
 * wants one looks again after 50 ms. */
#define UNLOCKS_MIN 32
#define UNLOCK_MS 25

static bool reserve(struct lvt_asked_list *list, uint32_t size) {
    if (list->size >= size)
        return true;
    struct lvt_asked *items = realloc(list->items, size * sizeof *items);
    if (!items)
        return false;
    list->items = items;
    list->size = size;
    return true;
}

static void put(struct lvt_asked_list *list, struct lvt_claim *claim) {
    struct lvt_asked *asked = &list->items[list->count];
    *asked = (struct lvt_asked){.claim = claim, .locked = claim->held};
    memcpy(asked->key, claim->key, LVT_KEY_BYTES);
    claim->slot = list->count++;
}

/* The rows of a migrated table have no queue. */
static void look_up_legacy(struct lvt_ledger *ledger, struct lvt_asked *asked) {
    const struct lvt_claim *claim = asked->claim;
    lvt_event_key(lvt_bytes_of(ledger->name), lvt_bytes("", 0), claim->type, claim->id,
                  asked->legacy_key);
    lvt_pg_array_uuid(&ledger->round.lookup_keys, asked->legacy_key);
}

static int compare_claims(const void *a, const void *b) {
    const struct lvt_claim *const *left = a, *const *right = b;
    return memcmp((*left)->key, (*right)->key, LVT_KEY_BYTES);
}

static int compare_asked(const void *a, const void *b) {
    const struct lvt_asked *const *left = a, *const *right = b;
    return memcmp((*left)->key, (*right)->key, LVT_KEY_BYTES);
}

static uint32_t at_most(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static void lost_locks(struct lvt_ledger *ledger, uint32_t count) {
    ledger->locks -= at_most(count, ledger->locks);
}

static void note_failure(struct lvt_round *round, const PGresult *result, char ret_state[6]) {
    if (PQresultStatus(result) == PGRES_PIPELINE_ABORTED || ret_state[0])
        return;
    lvt_pg_explain(result, &round->error);
    const char *state = lvt_pg_sqlstate(result);
    snprintf(ret_state, 6, "%.5s", state[0] ? state : "XX000");
}

static void note_shared(struct lvt_round *round) {
    lvt_pg_explain_shared(&round->error);
    strcpy(round->claim_state, "26000"); /* what the next use of our statements would be told */
}

static int64_t read_int8(const char *at) {
    return lvt_claims_lock_key((const unsigned char *)at);
}

/* ---- claims ---- */

static void on_unlocked(void *ctx, PGresult *result) {
    struct lvt_ledger *ledger = ctx;
    if (lvt_pg_failed(result))
        note_failure(&ledger->round, result, ledger->round.claim_state);
    PQclear(result);
}

static void on_locked(void *ctx, PGresult *result) {
    struct lvt_ledger *ledger = ctx;
    struct lvt_asked_list *claims = &ledger->round.claims;
    if (lvt_pg_failed(result)) {
        note_failure(&ledger->round, result, ledger->round.claim_state);
    } else {
        for (uint32_t i = 0; i < claims->count; i++)
            claims->items[i].locked = true;
        for (int row = 0; row < PQntuples(result); row++) {
            int64_t place = read_int8(PQgetvalue(result, row, 0));
            if (place == 0)
                note_shared(&ledger->round);
            else if (place >= 1 && place <= claims->count)
                claims->items[place - 1].locked = false;
        }
    }
    PQclear(result);
}

static void mark_found(struct lvt_asked_list *claims, struct lvt_asked **index, bool legacy,
                       const void *id) {
    struct lvt_asked wanted;
    const struct lvt_asked *key = &wanted;
    memcpy(wanted.key, id, LVT_KEY_BYTES);
    struct lvt_asked **found = bsearch(&key, index, claims->count, sizeof *index, compare_asked);
    if (found)
        (*found)->found = true;
    for (uint32_t i = 0; legacy && i < claims->count; i++)
        if (memcmp(claims->items[i].legacy_key, id, LVT_KEY_BYTES) == 0)
            claims->items[i].found = true;
}

static void take_found(struct lvt_ledger *ledger, const PGresult *result) {
    struct lvt_asked_list *claims = &ledger->round.claims;
    struct lvt_asked **index = calloc(claims->count, sizeof(struct lvt_asked *));
    if (!index) {
        leveret_fail(&ledger->round.error, LEVERET_UNAVAILABLE, "out of memory");
        strcpy(ledger->round.claim_state, "53200");
        return;
    }
    for (uint32_t i = 0; i < claims->count; i++)
        index[i] = &claims->items[i];
    qsort(index, claims->count, sizeof *index, compare_asked);
    for (int row = 0; row < PQntuples(result); row++)
        mark_found(claims, index, ledger->legacy, PQgetvalue(result, row, 0));
    free(index);
}

static void ask_again(struct lvt_ledger *ledger) {
    struct lvt_asked_list *claims = &ledger->round.claims;
    for (uint32_t i = 0; i < claims->count; i++)
        if (claims->items[i].claim)
            lvt_claims_append(&ledger->waiting, claims->items[i].claim, LVT_PHASE_WAITING);
    lost_locks(ledger, claims->count);
    claims->count = 0;
}

/* Fills the claim's answer in, and gives up the lock that is not wanted. */
static void settle(struct lvt_ledger *ledger, struct lvt_asked *asked) {
    struct lvt_claim *claim = asked->claim;
    bool got = asked->locked && !asked->found && claim;
    if (!asked->locked)
        lost_locks(ledger, 1);
    else if (!got)
        lvt_claims_unlock(ledger, asked->key);
    if (!claim)
        return;
    claim->phase = LVT_PHASE_NONE;
    claim->held = got;
    claim->result = got ? LVT_CLAIM_GOT : asked->found ? LVT_CLAIM_DUPLICATE : LVT_CLAIM_BUSY;
    if (got)
        lvt_claims_append(&ledger->held, claim, LVT_PHASE_HELD);
}

static void answer_claims(struct lvt_ledger *ledger) {
    struct lvt_asked_list *claims = &ledger->round.claims;
    struct lvt_claim *answered = NULL, **last = &answered;
    if (ledger->round.lock_max < ledger->options.max_claims &&
        uv_now(ledger->options.loop) - ledger->round.locks_out_ms > LOCKS_OUT_MS)
        ledger->round.lock_max++;
    for (uint32_t i = 0; i < claims->count; i++) {
        settle(ledger, &claims->items[i]);
        if (claims->items[i].claim) {
            *last = claims->items[i].claim;
            last = &claims->items[i].claim->next;
        }
    }
    *last = NULL;
    claims->count = 0;
    if (answered)
        ledger->options.sink.claimed(ledger->options.sink.ctx, answered);
}

static void on_looked_up(void *ctx, PGresult *result) {
    struct lvt_ledger *ledger = ctx;
    struct lvt_round *round = &ledger->round;
    if (lvt_pg_failed(result))
        note_failure(round, result, round->claim_state);
    else if (PQntuples(result) > 0)
        take_found(ledger, result);
    PQclear(result);
    if (round->claim_state[0])
        ask_again(ledger);
    else
        answer_claims(ledger);
}

/* ---- records ---- */

static void on_inserted(void *ctx, PGresult *result) {
    struct lvt_ledger *ledger = ctx;
    ledger->round.skipped = PQresultStatus(result) == PGRES_PIPELINE_ABORTED;
    if (lvt_pg_failed(result))
        note_failure(&ledger->round, result, ledger->round.record_state);
    PQclear(result);
}

static void record_again(struct lvt_ledger *ledger) {
    struct lvt_asked_list *records = &ledger->round.records;
    for (uint32_t i = 0; i < records->count; i++) {
        struct lvt_claim *claim = records->items[i].claim;
        if (claim) {
            lvt_claims_remove(&ledger->recording, claim);
            lvt_claims_append(&ledger->to_record, claim, LVT_PHASE_TO_RECORD);
        } else if (records->items[i].locked) {
            lvt_claims_unlock(ledger, records->items[i].key);
        }
    }
    records->count = 0;
}

static struct lvt_claim *take_recorded(struct lvt_ledger *ledger) {
    struct lvt_asked_list *records = &ledger->round.records;
    struct lvt_claim *answered = NULL, **last = &answered;
    for (uint32_t i = 0; i < records->count; i++) {
        struct lvt_claim *claim = records->items[i].claim;
        /* a claim that lost its lock meanwhile has none to give up */
        if (claim ? claim->held : records->items[i].locked)
            lvt_claims_unlock(ledger, records->items[i].key);
        if (!claim)
            continue;
        lvt_claims_remove(&ledger->recording, claim);
        claim->held = false;
        *last = claim;
        last = &claim->next;
    }
    *last = NULL;
    records->count = 0;
    return answered;
}

static void on_pause_over(uv_timer_t *timer) {
    struct lvt_ledger *ledger = timer->data;
    ledger->round.paused = false;
    lvt_ledger_soon(ledger);
}

static void pause_for(struct lvt_ledger *ledger, uint64_t pause_ms) {
    ledger->round.paused = true;
    uv_timer_start(&ledger->round.timer, on_pause_over, pause_ms, 0);
}

/* Another session holds a row of the batch, or was in a deadlock with us: a part goes through. */
static bool worth_a_split(const char *sqlstate) {
    return strcmp(sqlstate, "55P03") == 0 || strcmp(sqlstate, "40P01") == 0 ||
           strcmp(sqlstate, "40001") == 0;
}

static void finish(struct lvt_ledger *ledger) {
    struct lvt_round *round = &ledger->round;
    struct lvt_claim *recorded = NULL;
    uint32_t count = round->records.count;
    const char *trouble = round->claim_state;
    round->under_way = false;
    uv_timer_stop(&round->timer);
    if (round->skipped) {
        record_again(ledger);
    } else if (strcmp(round->record_state, "23505") == 0 && !round->some_recorded) {
        record_again(ledger);
        round->some_recorded = true;
    } else if (round->record_state[0]) {
        record_again(ledger);
        if (!worth_a_split(round->record_state))
            trouble = round->record_state;
        round->record_max = count > 1 ? count / 2 : 1;
        pause_for(ledger, SPLIT_PAUSE_MS);
    } else if (count > 0) {
        round->some_recorded = round->some_recorded && ledger->to_record.first;
        recorded = take_recorded(ledger);
        round->record_max = at_most(ROUND_MAX, round->record_max * 2);
    }
    if (strcmp(trouble, "53200") == 0) {
        round->lock_max = round->lock_max > 1 ? round->lock_max / 2 : 1;
        round->locks_out_ms = uv_now(ledger->options.loop);
        lvt_session_relock(ledger, &round->error);
    } else if (trouble[0]) {
        lvt_session_fail(ledger, &round->error);
    }
    if (recorded)
        ledger->options.sink.recorded(ledger->options.sink.ctx, recorded);
    lvt_ledger_soon(ledger);
}

static void on_round_synced(void *ctx, PGresult *result) {
    PQclear(result);
    finish(ctx);
}

/* ---- the round ---- */

static struct lvt_pg_param array_param(const struct lvt_pg_array *array) {
    return (struct lvt_pg_param){array->buffer.data, array->buffer.len, true};
}

static bool take_unlocks(struct lvt_ledger *ledger) {
    struct lvt_pg_array *keys = &ledger->round.unlock_keys;
    lvt_pg_array_begin(keys);
    for (uint32_t i = 0; i < ledger->unlock_count; i++)
        lvt_pg_array_int8(keys, ledger->unlocks[i]);
    return lvt_pg_array_end(keys);
}

static bool take_claims(struct lvt_ledger *ledger, uint32_t max) {
    struct lvt_round *round = &ledger->round;
    if (!reserve(&round->claims, at_most(max, ledger->waiting.count)))
        return false;
    lvt_pg_array_begin(&round->lock_keys);
    lvt_pg_array_begin(&round->lookup_keys);
    while (ledger->waiting.first && round->claims.count < max) {
        struct lvt_claim *claim = ledger->waiting.first;
        lvt_claims_remove(&ledger->waiting, claim);
        put(&round->claims, claim);
        claim->phase = LVT_PHASE_ASKING;
        lvt_pg_array_int8(&round->lock_keys, lvt_claims_lock_key(claim->key));
        lvt_pg_array_uuid(&round->lookup_keys, claim->key);
        if (ledger->legacy)
            look_up_legacy(ledger, &round->claims.items[claim->slot]);
    }
    ledger->locks += round->claims.count;
    /* both are ended, whichever fails */
    bool ok = lvt_pg_array_end(&round->lock_keys);
    return lvt_pg_array_end(&round->lookup_keys) && ok;
}

/* In the order of their keys, as every worker inserts: two that overlap cannot deadlock. */
static bool take_records(struct lvt_ledger *ledger) {
    struct lvt_round *round = &ledger->round;
    uint32_t count = at_most(round->record_max, ledger->to_record.count);
    struct lvt_claim **sorted = count ? calloc(count, sizeof(struct lvt_claim *)) : NULL;
    if (count > 0 && (!sorted || !reserve(&round->records, count))) {
        free(sorted);
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        sorted[i] = ledger->to_record.first;
        lvt_claims_remove(&ledger->to_record, sorted[i]);
        lvt_claims_append(&ledger->recording, sorted[i], LVT_PHASE_RECORDING);
    }
    if (count > 0)
        qsort(sorted, count, sizeof(struct lvt_claim *), compare_claims);
    lvt_pg_array_begin(&round->ids);
    lvt_pg_array_begin(&round->event_ids);
    lvt_pg_array_begin(&round->event_types);
    lvt_pg_array_begin(&round->queues);
    for (uint32_t i = 0; i < count; i++) {
        put(&round->records, sorted[i]);
        lvt_pg_array_uuid(&round->ids, sorted[i]->key);
        lvt_pg_array_text(&round->event_ids, sorted[i]->id);
        lvt_pg_array_text(&round->event_types, sorted[i]->type);
        lvt_pg_array_text(&round->queues, sorted[i]->queue);
    }
    free(sorted);
    bool ok = lvt_pg_array_end(&round->ids);
    ok = lvt_pg_array_end(&round->event_ids) && ok;
    ok = lvt_pg_array_end(&round->event_types) && ok;
    return lvt_pg_array_end(&round->queues) && ok;
}

static void send_round(struct lvt_ledger *ledger) {
    struct lvt_round *round = &ledger->round;
    struct lvt_pg *pg = ledger->pg;
    if (round->unlock_keys.count > 0) {
        const struct lvt_pg_param keys = array_param(&round->unlock_keys);
        lvt_pg_execute(pg, "unlock", &keys, 1, on_unlocked, ledger);
    }
    if (round->claims.count > 0) {
        const char *mark = lvt_pg_mark(pg);
        const struct lvt_pg_param locks[] = {array_param(&round->lock_keys),
                                             {mark, strlen(mark), false}};
        const struct lvt_pg_param keys = array_param(&round->lookup_keys);
        lvt_pg_execute(pg, "lock", locks, 2, on_locked, ledger);
        lvt_pg_execute(pg, "look_up", &keys, 1, on_looked_up, ledger);
    }
    if (round->records.count > 0) {
        lvt_pg_send_answers(pg);
        const struct lvt_pg_param params[] = {array_param(&round->ids),
                                              array_param(&round->event_ids),
                                              array_param(&round->event_types),
                                              array_param(&round->queues),
                                              {ledger->name, strlen(ledger->name), false}};
        lvt_pg_execute(pg, round->some_recorded ? "insert_missing" : "insert", params, 5,
                       on_inserted, ledger);
    }
    lvt_pg_sync(pg, on_round_synced, ledger);
    lvt_pg_flush(pg);
}

static void on_deadline(uv_timer_t *timer) {
    struct lvt_ledger *ledger = timer->data;
    struct leveret_error err;
    leveret_fail(&err, LEVERET_UNAVAILABLE, "PostgreSQL did not answer within %d s",
                 ROUND_DEADLINE_MS / 1000);
    lvt_session_fail(ledger, &err);
}

static void on_unlocks_due(uv_timer_t *timer) {
    struct lvt_ledger *ledger = timer->data;
    ledger->round.unlocks_due = true;
    lvt_ledger_soon(ledger);
}

static bool unlocks_due(struct lvt_ledger *ledger) {
    struct lvt_round *round = &ledger->round;
    if (ledger->unlock_count == 0)
        return false;
    if (round->unlocks_due || ledger->unlock_count >= UNLOCKS_MIN)
        return true;
    if (!uv_is_active((uv_handle_t *)&round->timer))
        uv_timer_start(&round->timer, on_unlocks_due, UNLOCK_MS, 0);
    return false;
}

void lvt_round_start(struct lvt_ledger *ledger) {
    struct lvt_round *round = &ledger->round;
    uint32_t locks = ledger->locks - at_most(ledger->unlock_count, ledger->locks);
    uint32_t room = round->lock_max - at_most(locks, round->lock_max);
    if (ledger->session != LVT_SESSION_READY || round->under_way || round->paused)
        return;
    if (!ledger->to_record.first && (!ledger->waiting.first || room == 0) && !unlocks_due(ledger))
        return;
    bool ok = take_unlocks(ledger);
    ok = take_claims(ledger, at_most(room, ROUND_MAX)) && ok;
    ok = take_records(ledger) && ok;
    if (!ok) {
        ask_again(ledger);
        record_again(ledger);
        pause_for(ledger, SPLIT_PAUSE_MS);
        return;
    }
    lost_locks(ledger, ledger->unlock_count);
    ledger->unlock_count = 0;
    round->under_way = true;
    round->unlocks_due = false;
    round->claim_state[0] = round->record_state[0] = '\0';
    round->skipped = false;
    uv_timer_start(&round->timer, on_deadline, ROUND_DEADLINE_MS, 0);
    send_round(ledger);
}

void lvt_round_lost(struct lvt_ledger *ledger) {
    struct lvt_round *round = &ledger->round;
    uv_timer_stop(&round->timer);
    ask_again(ledger);
    record_again(ledger);
    round->under_way = round->paused = false;
}

void lvt_round_init(struct lvt_ledger *ledger) {
    struct lvt_round *round = &ledger->round;
    lvt_pg_array_init(&round->unlock_keys, LVT_PG_INT8);
    lvt_pg_array_init(&round->lock_keys, LVT_PG_INT8);
    lvt_pg_array_init(&round->lookup_keys, LVT_PG_UUID);
    lvt_pg_array_init(&round->ids, LVT_PG_UUID);
    lvt_pg_array_init(&round->event_ids, LVT_PG_TEXT);
    lvt_pg_array_init(&round->event_types, LVT_PG_TEXT);
    lvt_pg_array_init(&round->queues, LVT_PG_TEXT);
    round->record_max = ROUND_MAX;
    round->lock_max = ledger->options.max_claims;
    uv_timer_init(ledger->options.loop, &round->timer);
    round->timer.data = ledger;
}

static void on_timer_closed(uv_handle_t *handle) {
    lvt_ledger_count_closed(handle->data);
}

void lvt_round_close(struct lvt_ledger *ledger) {
    ledger->open_handles++;
    uv_close((uv_handle_t *)&ledger->round.timer, on_timer_closed);
}

void lvt_round_free(struct lvt_ledger *ledger) {
    struct lvt_round *round = &ledger->round;
    struct lvt_pg_array *arrays[] = {&round->unlock_keys, &round->lock_keys, &round->lookup_keys,
                                     &round->ids,         &round->event_ids, &round->event_types,
                                     &round->queues};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        lvt_pg_array_free(arrays[i]);
    free(round->claims.items);
    free(round->records.items);
}
