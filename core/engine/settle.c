/* Last step: what a run came to is made durable, and only then is the delivery acked. */
#include "base/container.h"
#include "engine/message.h"
#include "engine/retry.h"
#include "engine/state.h"

/* Between two tries while a service is away, or while no queue takes a message. */
#define WAIT_FIRST_MS 1000
#define WAIT_CAP_MS 30000
/* Transactions that PostgreSQL asks to run again (40001, 40P01) do, at no cost, this often. */
#define CONFLICTS_MAX 5
#define CONFLICT_FIRST_MS 20
#define CONFLICT_CAP_MS 500

static void publish(struct lvt_engine *engine, struct lvt_event *event);
static void published(struct lvt_engine *engine, struct lvt_publish *answer);

static void ack_all(struct lvt_engine *engine, struct lvt_event *event) {
    engine->broker.ack(engine->broker.self, event->delivery);
    for (struct lvt_delivery *also = event->joined; also; also = also->next)
        engine->broker.ack(engine->broker.self, also);
}

/* What became of it is safe: the end of its way. */
static void finish(struct lvt_engine *engine, struct lvt_event *event) {
    ack_all(engine, event);
    lvt_quarantine_settled(engine, event);
    lvt_outcome_report(engine, event);
    lvt_event_forget(engine, event);
}

static bool any_live(struct lvt_engine *engine, const struct lvt_event *event) {
    bool live = engine->broker.live(engine->broker.self, event->delivery);
    for (const struct lvt_delivery *also = event->joined; also && !live; also = also->next)
        live = engine->broker.live(engine->broker.self, also);
    return live;
}

static void turn_again(struct lvt_timer *timer) {
    struct lvt_event *event = lvt_event_of_timer(timer);
    lvt_run_queue_again(event->engine, event);
}

/* Its turn comes again, at no cost of an attempt. */
static void wait_for_turn(struct lvt_engine *engine, struct lvt_event *event, uint64_t first_ms,
                          uint64_t cap_ms) {
    if (engine->draining) {
        lvt_event_forget(engine, event);
        return;
    }
    lvt_outcome_waits(engine, event);
    lvt_event_enter(engine, event, LVT_STAGE_WAITING);
    lvt_event_wait(engine, event, first_ms, cap_ms, turn_again);
}

/* The message stands in event->publish. Without a live delivery there is nothing to settle: the
 * broker has the event, as it was before this attempt, and delivers it again. */
static void publish(struct lvt_engine *engine, struct lvt_event *event) {
    if (!any_live(engine, event)) {
        lvt_event_forget(engine, event);
        return;
    }
    event->publishing = true;
    event->publish.answered = published;
    engine->broker.publish(engine->broker.self, &event->publish);
}

/* The event goes on as a message, with what it carries of its attempts and their failure. */
static void send_on(struct lvt_engine *engine, struct lvt_event *event,
                    struct lvt_destination destination, enum lvt_story story) {
    int64_t wall_ms = engine->clock.wall_ms(engine->clock.self);
    bool failed =
        (event->run && story != LVT_STORY_NONE) || event->condemned || event->failed_before;
    uint32_t attempts_made = failed ? event->attempt : event->attempt - 1;
    if (lvt_message_build(event, attempts_made, story, wall_ms) != LEVERET_OK) {
        lvt_event_give_back(engine, event); /* until there is memory */
        return;
    }
    event->publish.destination = destination;
    publish(engine, event);
}

/* What the broker refused may have been too big for a frame: the story of a failure is cut short.
 */
static void send_again(struct lvt_timer *timer) {
    struct lvt_event *event = lvt_event_of_timer(timer);
    bool failed = event->dead || event->verdict.kind != LVT_VERDICT_SNOOZE;
    if (failed && event->publish.result == LVT_PUBLISH_REFUSED)
        send_on(event->engine, event, event->publish.destination, LVT_STORY_SHORT);
    else
        publish(event->engine, event);
}

static void dead_letter(struct lvt_engine *engine, struct lvt_event *event) {
    /* A copy: the queue may have another one before the answer. */
    struct lvt_bytes queue =
        lvt_arena_copy(&event->delivery->arena, lvt_bytes_of(event->delivery->queue->dead_letter));
    const struct lvt_destination destination = {.kind = LVT_TO_QUEUE, .name = queue};
    if (!queue.data) {
        lvt_event_give_back(engine, event); /* until there is memory */
        return;
    }
    event->dead = true;
    event->waits = 0;
    send_on(engine, event, destination, LVT_STORY_FULL);
}

static void send_back(struct lvt_engine *engine, struct lvt_event *event, uint64_t delay_ms,
                      enum lvt_story story) {
    const struct lvt_destination destination = {.kind = LVT_TO_DELAY,
                                                .name = lvt_bytes_of(event->delivery->queue->name),
                                                .delay_ms = delay_ms};
    event->delay_ms = delay_ms;
    event->waits = 0;
    send_on(engine, event, destination, story);
}

static bool is_conflict(const char *sqlstate) {
    return strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "40P01") == 0;
}

static void settle_failure(struct lvt_engine *engine, struct lvt_event *event) {
    const struct lvt_verdict *verdict = &event->verdict;
    const struct lvt_retry_policy *policy = &event->handler->options.retry;
    if (is_conflict(verdict->sqlstate) && event->conflicts++ < CONFLICTS_MAX) {
        wait_for_turn(engine, event, CONFLICT_FIRST_MS, CONFLICT_CAP_MS);
        return;
    }
    bool permanent = strncmp(verdict->sqlstate, "22", 2) == 0;
    if (permanent || event->attempt > lvt_event_retries(event)) {
        dead_letter(engine, event);
        return;
    }
    uint64_t delay_ms = (uint64_t)verdict->after_ms;
    if (verdict->after_ms < 0)
        delay_ms =
            lvt_retry_delay(policy, event->attempt - 1, engine->clock.random(engine->clock.self));
    send_back(engine, event, delay_ms, LVT_STORY_FULL);
}

static void settle(struct lvt_engine *engine, struct lvt_event *event);

static void committed(void *ctx, enum lvt_tx_result result, const struct lvt_sql_error *error) {
    struct lvt_event *event = ctx;
    struct lvt_engine *engine = event->engine;
    struct lvt_verdict verdict = {.kind = LVT_VERDICT_OUTAGE,
                                  .reason = LVT_LITERAL("PostgreSQL is away"),
                                  .after_ms = -1,
                                  .service = LVT_SERVICE_POSTGRES};
    lvt_effects_tx_ended(engine, event->run);
    if (result == LVT_TX_OK || result == LVT_TX_DUPLICATE)
        event->claimed = false;
    if (result == LVT_TX_OK) {
        lvt_outage_note(event->run);
        lvt_invalidations_start(engine, event->run);
        finish(engine, event);
        return;
    }
    lvt_effects_rollback(event->run);
    if (result == LVT_TX_DUPLICATE)
        verdict.kind = LVT_VERDICT_DUPLICATE;
    if (result == LVT_TX_ERROR) {
        verdict.kind = LVT_VERDICT_RETRY;
        verdict.reason = lvt_bytes_of(error->text);
        memcpy(verdict.sqlstate, error->sqlstate, sizeof verdict.sqlstate);
    }
    lvt_event_judge(event, &verdict); /* its commit came to something else */
    lvt_outage_note(event->run);
    lvt_event_append(&engine->to_settle, event);
}

static void settle(struct lvt_engine *engine, struct lvt_event *event) {
    switch (event->verdict.kind) {
    case LVT_VERDICT_DONE:
    case LVT_VERDICT_DROP:
        if (event->run->tx)
            engine->ledger.tx_commit(engine->ledger.self, event->run->tx, committed, event);
        else
            finish(engine, event); /* it has no id: there is nothing to record */
        break;
    case LVT_VERDICT_DUPLICATE:
        finish(engine, event);
        break;
    case LVT_VERDICT_RETRY:
        settle_failure(engine, event);
        break;
    case LVT_VERDICT_REJECT:
        dead_letter(engine, event);
        break;
    case LVT_VERDICT_SNOOZE:
        send_back(engine, event, (uint64_t)event->verdict.after_ms, LVT_STORY_NONE);
        break;
    case LVT_VERDICT_OUTAGE:
        if (event->verdict.service == LVT_SERVICE_NONE)
            wait_for_turn(engine, event, WAIT_FIRST_MS, WAIT_CAP_MS);
        else
            lvt_outage_met(engine, event);
        break;
    }
}

/* A handler that did not touch the database: its record goes with those of its batch. */
static bool wants_record(const struct lvt_event *event) {
    return (event->verdict.kind == LVT_VERDICT_DONE || event->verdict.kind == LVT_VERDICT_DROP) &&
           event->claimed && !event->run->tx;
}

void lvt_settle_step(struct lvt_engine *engine) {
    struct lvt_claim *claim = engine->recorded;
    engine->recorded = NULL;
    while (claim) {
        struct lvt_claim *next = claim->next;
        struct lvt_event *event = lvt_event_of_claim(claim);
        event->claimed = false;
        finish(engine, event);
        claim = next;
    }

    struct lvt_claim *records = NULL, **last = &records;
    struct lvt_event *event;
    while ((event = lvt_event_take(&engine->to_settle))) {
        if (wants_record(event)) {
            *last = &event->claim;
            last = &event->claim.next;
        } else {
            settle(engine, event);
        }
    }
    *last = NULL;
    if (records)
        engine->ledger.record(engine->ledger.self, records);
}

static void published(struct lvt_engine *engine, struct lvt_publish *answer) {
    struct lvt_event *event = LVT_CONTAINER_OF(answer, struct lvt_event, publish);
    event->publishing = false;
    lvt_stats_count_published(engine->options.stats,
                              event->handler ? event->type : lvt_bytes("", 0),
                              event->publish.result);
    if (event->abandoned || event->publish.result == LVT_PUBLISH_DROPPED) {
        lvt_event_forget(engine, event);
        return;
    }
    if (event->publish.result == LVT_PUBLISH_CONFIRMED) {
        finish(engine, event);
        return;
    }
    LVT_LOG(engine->options.log, LVT_ERROR,
            event->dead ? "the broker did not take a dead letter; trying again"
                        : "the broker did not take a retry; trying again",
            LVT_TEXT("event", event->type), LVT_TEXT("id", event->id),
            LVT_STRING("queue", event->delivery->queue->name),
            LVT_STRING("dead_letter", event->delivery->queue->dead_letter),
            LVT_STRING("reason", event->publish.reason));
    lvt_event_wait(engine, event, WAIT_FIRST_MS, WAIT_CAP_MS, send_again);
}

void lvt_settle_published(void *ctx, struct lvt_publish *list) {
    while (list) {
        struct lvt_publish *next = list->next;
        list->answered(ctx, list);
        list = next;
    }
}
