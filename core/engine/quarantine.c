/* Events that have ended the process, or may have. The supervisor charges the one that was on the
 * processor; here each event is looked up before its handler gets control. A suspect runs alone, so
 * that if it happens again there is no doubt; what has done it too often does not run again. */
#include <stdio.h>

#include "engine/state.h"
#include "event/key.h"

/* Where nothing is known of an event, the broker's own count tells: so many deliveries came to no
 * end. */
#define DELIVERIES_OF_A_SUSPECT 5

void lvt_quarantine_name(struct lvt_engine *engine, struct lvt_event *event) {
    if (engine->options.blackbox)
        lvt_event_key(lvt_bytes_of(engine->options.name),
                      lvt_bytes_of(event->delivery->queue->name), event->type,
                      event->delivery->body, event->claim.key);
}

static bool delivered_often(const struct lvt_delivery *delivery) {
    int64_t count;
    return delivery->redelivered &&
           lvt_header_integer(lvt_headers_find(&delivery->properties.headers, "x-delivery-count"),
                              &count) &&
           count >= DELIVERIES_OF_A_SUSPECT;
}

static void look(struct lvt_engine *engine, struct lvt_event *event) {
    struct lvt_charge charge;
    if (!engine->options.blackbox)
        return;
    if (!lvt_charges_find(engine->options.charges, event->claim.key, &charge)) {
        event->suspect = event->suspect || delivered_often(event->delivery);
        return;
    }
    event->suspect = true;
    event->crashes = charge.crashes;
    if (event->attempt <= charge.attempt)
        event->attempt = charge.attempt + 1;
}

void lvt_quarantine_queue(struct lvt_engine *engine, struct lvt_event *event) {
    look(engine, event);
    engine->suspects_wait = engine->suspects_wait || event->suspect;
}

/* To the dead letters, with the attempts that it is charged with. */
static void condemn(struct lvt_engine *engine, struct lvt_event *event) {
    struct lvt_charge charge = {.attempt = event->attempt - 1};
    char death[LVT_DEATH_TEXT], reason[200];
    (void)lvt_charges_find(engine->options.charges, event->claim.key, &charge);
    lvt_death_text((enum lvt_death)charge.death, charge.detail, death);
    snprintf(reason, sizeof reason, "crash: %s in handler %s, which ended the process %u times",
             death, event->handler->name, event->crashes);
    const struct lvt_verdict verdict = {.kind = LVT_VERDICT_REJECT, .reason = lvt_bytes_of(reason)};
    event->attempt = charge.attempt;
    event->condemned = true;
    lvt_event_judge(event, &verdict);
    lvt_event_enter(engine, event, LVT_STAGE_SETTLING);
    lvt_event_append(&engine->to_settle, event);
}

bool lvt_quarantine_holds(struct lvt_engine *engine, struct lvt_event *event) {
    look(engine, event);
    if (event->crashes > 0 && event->crashes >= engine->options.crash_limit) {
        condemn(engine, event);
        return true;
    }
    if (event->suspect && engine->running > 0) { /* it has become one since it was queued */
        lvt_run_queue(engine, event);
        return true;
    }
    return false;
}

bool lvt_quarantine_waits(const struct lvt_handler *handler) {
    const struct lvt_event *event = handler->ready.first;
    while (event && !event->suspect)
        event = event->next;
    return event;
}

struct lvt_event *lvt_quarantine_take(struct lvt_handler *handler) {
    struct lvt_event_list *list = &handler->ready;
    struct lvt_event **at = &list->first, *before = NULL;
    while (!(*at)->suspect) {
        before = *at;
        at = &before->next;
    }
    struct lvt_event *event = *at;
    *at = event->next;
    if (list->last == event)
        list->last = before;
    event->next = NULL;
    return event;
}

/* ---- what is written down of a run ---- */

static void fill(const struct lvt_run *run, struct lvt_subject *subject) {
    const struct lvt_event *event = run->event;
    memcpy(subject->key, event->claim.key, sizeof subject->key);
    subject->attempt = event->attempt;
    subject->suspect = event->suspect;
    lvt_subject_fill(subject, lvt_bytes_of(run->handler->name), event->type, event->id);
}

void lvt_quarantine_begin(struct lvt_run *run) {
    struct lvt_blackbox *box = run->engine->options.blackbox;
    run->engine->running++;
    run->engine->alone = run->event->suspect;
    run->row = box ? lvt_blackbox_begin(box) : NULL;
    if (!run->row)
        return;
    fill(run, &run->row->subject);
    atomic_store_explicit(&run->row->used, true, memory_order_release);
}

/* It has come to an end of its own, so it was not what a kill was about. What it is charged with
 * stays until the event is settled for good. */
void lvt_quarantine_end(struct lvt_run *run) {
    struct lvt_engine *engine = run->engine;
    struct lvt_event *event = run->event;
    engine->running--;
    engine->alone = false;
    if (run->row)
        lvt_blackbox_end(engine->options.blackbox, run->row);
    run->row = NULL;
    if (event->suspect && event->crashes == 0) {
        lvt_blackbox_pardon(engine->options.blackbox, event->claim.key);
        event->suspect = false;
    }
}

void lvt_quarantine_settled(struct lvt_engine *engine, const struct lvt_event *event) {
    bool again = !event->dead && (event->verdict.kind == LVT_VERDICT_RETRY ||
                                  event->verdict.kind == LVT_VERDICT_SNOOZE);
    if (event->crashes > 0 && !again)
        lvt_blackbox_pardon(engine->options.blackbox, event->claim.key);
}

/* ---- control ---- */

void lvt_run_enter(struct lvt_run *run) {
    struct lvt_engine *engine = run->engine;
    struct lvt_blackbox *box = engine->options.blackbox;
    if (box && engine->entered++ == 0) {
        struct lvt_subject subject;
        fill(run, &subject);
        lvt_seat_enter(&box->seats[0], &subject, box->hard_timeout_ms);
    }
}

void lvt_run_leave(struct lvt_engine *engine) {
    struct lvt_blackbox *box = engine->options.blackbox;
    if (box && --engine->entered == 0)
        lvt_seat_leave(&box->seats[0]);
}

void lvt_run_subject(const struct lvt_run *run, struct lvt_subject *ret_subject) {
    fill(run, ret_subject);
}
