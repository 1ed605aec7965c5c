/* Second step: the right to run an event, so that no two workers run one at a time, and none that
 * is in the ledger runs again. */
#include <stdlib.h>

#include "engine/state.h"
#include "event/key.h"

/* The first look after another worker was found to have the event, and the longest wait between
 * two. */
#define BUSY_FIRST_MS 50
#define BUSY_CAP_MS 1000

static size_t bucket_of(const struct lvt_engine *engine, const unsigned char *key) {
    size_t hash;
    memcpy(&hash, key, sizeof hash); /* a key is a cryptographic hash already */
    return hash & (engine->in_hand_size - 1);
}

static void grow(struct lvt_engine *engine) {
    size_t old_size = engine->in_hand_size;
    struct lvt_event **old = engine->in_hand;
    struct lvt_event **buckets = calloc(old_size * 2, sizeof *buckets);
    if (!buckets)
        return; /* longer chains do no harm */
    engine->in_hand = buckets;
    engine->in_hand_size = old_size * 2;
    for (size_t i = 0; i < old_size; i++) {
        struct lvt_event *next;
        for (struct lvt_event *event = old[i]; event; event = next) {
            next = event->in_hand_next;
            size_t bucket = bucket_of(engine, event->claim.key);
            event->in_hand_next = buckets[bucket];
            buckets[bucket] = event;
        }
    }
    free(old);
}

static struct lvt_event *find(struct lvt_engine *engine, const unsigned char *key) {
    struct lvt_event *event = engine->in_hand[bucket_of(engine, key)];
    while (event && memcmp(event->claim.key, key, LVT_KEY_BYTES) != 0)
        event = event->in_hand_next;
    return event;
}

static void put_in_hand(struct lvt_engine *engine, struct lvt_event *event) {
    if (engine->in_hand_count >= engine->in_hand_size)
        grow(engine);
    size_t bucket = bucket_of(engine, event->claim.key);
    event->in_hand_next = engine->in_hand[bucket];
    engine->in_hand[bucket] = event;
    engine->in_hand_count++;
    event->in_hand = true;
}

static void take_out_of_hand(struct lvt_engine *engine, struct lvt_event *event) {
    struct lvt_event **at = &engine->in_hand[bucket_of(engine, event->claim.key)];
    while (*at != event)
        at = &(*at)->in_hand_next;
    *at = event->in_hand_next;
    engine->in_hand_count--;
    event->in_hand = false;
}

/* The message that an event goes back to its queue as can come before the confirm that ends the
 * event does, or although the confirm was lost and it waits to be sent once more. Acked by that
 * confirm it would be lost, so it waits for a turn of its own. */
static bool may_be_what_it_became(const struct lvt_event *first, const struct lvt_event *second) {
    bool waits_to_send = first->stage == LVT_STAGE_SETTLING && first->timer.position != 0;
    return (first->publishing || waits_to_send) && !first->dead &&
           (second->attempt > first->attempt || first->verdict.kind == LVT_VERDICT_SNOOZE);
}

/* After a cut an attempt may be made once more while the retry that it led to is on its way. If it
 * fails again it leads to the same retry, not to the one after. */
static bool is_its_retry(const struct lvt_event *first, const struct lvt_event *second) {
    bool begun = first->stage == LVT_STAGE_RUNNING || first->stage == LVT_STAGE_SETTLING;
    return begun && second->attempt == first->attempt + 1;
}

/* The same event again: the broker lost sight of the first, or somebody published it twice. It must
 * not run beside the first, so it shares what becomes of that one. */
static void join(struct lvt_engine *engine, struct lvt_event *first, struct lvt_event *second) {
    struct lvt_delivery *delivery = second->delivery;
    lvt_event_unlist(engine, second);
    if (may_be_what_it_became(first, second)) {
        delivery->next = first->held_back;
        first->held_back = delivery;
        return;
    }
    if (is_its_retry(first, second)) {
        first->failed_before = true;
    } else if (second->attempt > first->attempt) {
        first->attempt = second->attempt;
        first->failed_before = false;
    }
    delivery->next = first->joined;
    first->joined = delivery;
}

void lvt_claim_admit(struct lvt_engine *engine, struct lvt_event *event) {
    struct lvt_claim *claim = &event->claim;
    if (event->id.len == 0) {
        if (!event->handler->forwards)
            engine->options.stats->events_without_id++;
        lvt_quarantine_name(engine, event);
        lvt_run_queue(engine, event);
        return;
    }
    claim->queue = lvt_bytes_of(event->delivery->queue->name);
    claim->type = event->type;
    claim->id = event->id;
    struct lvt_bytes name = lvt_bytes_of(engine->options.name);
    lvt_event_key(name, claim->queue, claim->type, claim->id, claim->key);
    struct lvt_event *first = find(engine, claim->key);
    if (first) {
        join(engine, first, event);
        return;
    }
    put_in_hand(engine, event);
    lvt_event_append(&engine->to_claim, event);
}

void lvt_claim_renew(struct lvt_engine *engine, struct lvt_event *event) {
    if (event->claimed)
        engine->ledger.release(engine->ledger.self, &event->claim);
    event->claimed = false;
    lvt_event_enter(engine, event, LVT_STAGE_DECODED);
    lvt_event_append(&engine->to_claim, event);
}

static void look_again(struct lvt_timer *timer) {
    struct lvt_event *event = lvt_event_of_timer(timer);
    lvt_claim_renew(event->engine, event);
}

static void answer(struct lvt_engine *engine, struct lvt_claim *claim) {
    struct lvt_event *event = lvt_event_of_claim(claim);
    const struct lvt_verdict duplicate = {.kind = LVT_VERDICT_DUPLICATE};
    switch (claim->result) {
    case LVT_CLAIM_GOT:
        event->claimed = true;
        event->claimed_after = engine->sessions_lost;
        event->waits = 0;
        lvt_run_queue(engine, event);
        break;
    case LVT_CLAIM_DUPLICATE:
        lvt_event_judge(event, &duplicate);
        lvt_event_enter(engine, event, LVT_STAGE_SETTLING);
        lvt_event_append(&engine->to_settle, event);
        break;
    case LVT_CLAIM_BUSY:
        lvt_event_wait(engine, event, BUSY_FIRST_MS, BUSY_CAP_MS, look_again);
        break;
    }
}

static void take_answers(struct lvt_engine *engine) {
    struct lvt_claim *claim = engine->claimed;
    engine->claimed = engine->claimed_last = NULL;
    while (claim) {
        struct lvt_claim *next = claim->next;
        answer(engine, claim);
        claim = next;
    }
}

void lvt_claim_step(struct lvt_engine *engine) {
    take_answers(engine);
    struct lvt_claim *request = NULL, **last = &request;
    struct lvt_event *event;
    while ((event = lvt_event_take(&engine->to_claim))) {
        lvt_event_enter(engine, event, LVT_STAGE_CLAIMING);
        *last = &event->claim;
        last = &event->claim.next;
    }
    *last = NULL;
    if (request)
        engine->ledger.claim(engine->ledger.self, request);
}

static void claim_again(struct lvt_engine *engine, struct lvt_handler *handler) {
    struct lvt_event_list ready = handler->ready;
    struct lvt_event *event;
    handler->ready = (struct lvt_event_list){0};
    while ((event = lvt_event_take(&ready))) {
        if (!event->claimed) {
            lvt_event_append(&handler->ready, event); /* it has no id */
            continue;
        }
        lvt_claim_renew(engine, event);
    }
}

void lvt_claims_lost(struct lvt_engine *engine) {
    take_answers(engine); /* which the session gave before it was lost */
    for (size_t i = 0; i < engine->options.routes->handler_count; i++)
        claim_again(engine, engine->options.routes->handlers[i]);
    engine->sessions_lost++;
}

void lvt_claim_end(struct lvt_engine *engine, struct lvt_event *event) {
    if (!event->in_hand)
        return;
    take_out_of_hand(engine, event);
    if (event->claimed || event->stage == LVT_STAGE_CLAIMING)
        engine->ledger.release(engine->ledger.self, &event->claim);
    event->claimed = false;
}
