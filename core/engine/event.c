#include "engine/event.h"

#include "base/container.h"
#include "base/utf8.h"
#include "engine/retry.h"
#include "engine/state.h"

void lvt_event_append(struct lvt_event_list *list, struct lvt_event *event) {
    event->next = NULL;
    if (list->last)
        list->last->next = event;
    else
        list->first = event;
    list->last = event;
}

struct lvt_event *lvt_event_take(struct lvt_event_list *list) {
    struct lvt_event *event = list->first;
    if (!event)
        return NULL;
    list->first = event->next;
    if (!list->first)
        list->last = NULL;
    event->next = NULL;
    return event;
}

struct lvt_event *lvt_event_of_timer(struct lvt_timer *timer) {
    return LVT_CONTAINER_OF(timer, struct lvt_event, timer);
}

struct lvt_event *lvt_event_of_claim(struct lvt_claim *claim) {
    return LVT_CONTAINER_OF(claim, struct lvt_event, claim);
}

uint32_t lvt_event_retries(const struct lvt_event *event) {
    if (event->max_attempts > 0)
        return event->max_attempts - 1;
    return event->handler ? event->handler->options.retry.max : 0;
}

static bool in_flight(enum lvt_event_stage stage) {
    return stage == LVT_STAGE_RUNNING || stage == LVT_STAGE_SETTLING;
}

void lvt_event_enter(struct lvt_engine *engine, struct lvt_event *event,
                     enum lvt_event_stage stage) {
    engine->in_flight += in_flight(stage);
    engine->in_flight -= in_flight(event->stage);
    event->stage = stage;
    engine->options.stats->in_flight = engine->in_flight;
    if (engine->options.blackbox)
        atomic_store_explicit(&engine->options.blackbox->in_flight, (uint32_t)engine->in_flight,
                              memory_order_relaxed);
}

/* A text cut to its limit; empty when out of memory: a verdict without its text still stands. */
static struct lvt_bytes keep(struct lvt_event *event, struct lvt_bytes text, size_t max) {
    if (text.len > max)
        text.len = lvt_utf8_cut(text.data, max);
    struct lvt_bytes copy = lvt_arena_copy(&event->delivery->arena, text);
    return copy.data ? copy : lvt_bytes("", 0);
}

void lvt_event_judge(struct lvt_event *event, const struct lvt_verdict *verdict) {
    event->verdict = *verdict;
    event->verdict.reason = keep(event, verdict->reason, LVT_REASON_MAX);
    event->verdict.trace = keep(event, verdict->trace, LVT_TRACE_MAX);
}

void lvt_event_wait(struct lvt_engine *engine, struct lvt_event *event, uint64_t first_ms,
                    uint64_t cap_ms, void (*fire)(struct lvt_timer *timer)) {
    const struct lvt_retry_policy backoff = {
        .base_ms = first_ms, .factor = 2, .cap_ms = cap_ms, .jitter = 0.25};
    uint64_t delay_ms =
        lvt_retry_delay(&backoff, event->waits++, engine->clock.random(engine->clock.self));
    event->timer.fire = fire;
    uint64_t due_ms = engine->clock.now_ms(engine->clock.self) + delay_ms;
    if (!lvt_timer_start(engine->clock.timers, &event->timer, due_ms))
        fire(&event->timer); /* no memory for a timer: better soon than never */
}

void lvt_event_unlist(struct lvt_engine *engine, struct lvt_event *event) {
    if (event->all_prev)
        event->all_prev->all_next = event->all_next;
    else
        engine->all = event->all_next;
    if (event->all_next)
        event->all_next->all_prev = event->all_prev;
    lvt_event_hand_to(event, NULL);
}

void lvt_event_forget(struct lvt_engine *engine, struct lvt_event *event) {
    struct lvt_delivery *joined = event->joined;
    lvt_timer_stop(engine->clock.timers, &event->timer);
    lvt_claim_end(engine, event);
    lvt_outage_left(engine, event);
    lvt_event_enter(engine, event, LVT_STAGE_DECODED);
    lvt_event_unlist(engine, event);
    if (event->held_back)
        lvt_engine_arrived(engine, event->held_back);
    while (joined) {
        struct lvt_delivery *next = joined->next;
        lvt_delivery_free(joined);
        joined = next;
    }
    lvt_delivery_free(event->delivery); /* and the event, which lives in it */
}

void lvt_event_give_back(struct lvt_engine *engine, struct lvt_event *event) {
    engine->broker.requeue(engine->broker.self, event->delivery);
    for (struct lvt_delivery *also = event->joined; also; also = also->next)
        engine->broker.requeue(engine->broker.self, also);
    lvt_event_forget(engine, event);
}
