/* What became of an event, for people and for counters. */
#include <stdio.h>

#include "engine/state.h"

#define FIELDS_MAX 12

static enum lvt_outcome outcome_of(const struct lvt_event *event) {
    if (event->dead)
        return LVT_OUTCOME_FAILED;
    switch (event->verdict.kind) {
    case LVT_VERDICT_DONE:
        return LVT_OUTCOME_PROCESSED;
    case LVT_VERDICT_DROP:
        return LVT_OUTCOME_DROPPED;
    case LVT_VERDICT_DUPLICATE:
        return LVT_OUTCOME_DUPLICATE;
    default:
        return LVT_OUTCOME_RETRIED;
    }
}

static enum lvt_level describe(const struct lvt_event *event, char *text, size_t size) {
    uint32_t max = lvt_event_retries(event);
    if (event->dead) {
        snprintf(text, size, "dead-lettered to %s", event->delivery->queue->dead_letter);
        return LVT_ERROR;
    }
    switch (event->verdict.kind) {
    case LVT_VERDICT_DONE:
        snprintf(text, size, "processed");
        return LVT_INFO;
    case LVT_VERDICT_DROP:
        snprintf(text, size, "dropped");
        return LVT_INFO;
    case LVT_VERDICT_DUPLICATE:
        snprintf(text, size, "already processed, skipped");
        return LVT_INFO;
    case LVT_VERDICT_SNOOZE:
        snprintf(text, size, "%s for %llu ms",
                 event->asked_delay_ms > 0 ? "delayed, as it asks," : "snoozed",
                 (unsigned long long)event->delay_ms);
        return LVT_INFO;
    default:
        snprintf(text, size, "failed, retrying (attempt %u/%u after %llu ms)", event->attempt, max,
                 (unsigned long long)event->delay_ms);
        return LVT_WARN;
    }
}

/* A delivery of an event that was in hand already. */
static void report_joined(struct lvt_engine *engine, const struct lvt_event *event,
                          struct lvt_bytes label) {
    enum lvt_outcome outcome = outcome_of(event);
    bool done = outcome != LVT_OUTCOME_FAILED && outcome != LVT_OUTCOME_RETRIED;
    lvt_stats_count(engine->options.stats, label, LVT_OUTCOME_DUPLICATE);
    LVT_LOG(engine->options.log, LVT_INFO,
            done ? "already processed, skipped"
                 : "the same event again, settled with the one in hand",
            LVT_TEXT("event", event->type), LVT_TEXT("id", event->id),
            LVT_STRING("queue", event->delivery->queue->name));
}

void lvt_outcome_waits(const struct lvt_engine *engine, const struct lvt_event *event) {
    LVT_LOG(engine->options.log, LVT_DEBUG, "waits for its turn to come again",
            LVT_TEXT("event", event->type), LVT_TEXT("id", event->id),
            LVT_STRING("handler", event->handler->name),
            LVT_STRING("version", event->handler->version),
            LVT_TEXT("reason", event->verdict.reason));
}

/* Retries are logged and counted once the broker has them; a snooze is not counted as a retry. */
void lvt_outcome_report(struct lvt_engine *engine, struct lvt_event *event) {
    const struct lvt_log *log = engine->options.log;
    struct lvt_bytes label = event->handler ? event->type : lvt_bytes("", 0);
    struct lvt_field fields[FIELDS_MAX];
    size_t count = 0;
    char text[400];
    if (event->handler && event->handler->forwards && !event->dead &&
        event->verdict.kind == LVT_VERDICT_DONE)
        return;
    if (event->dead || event->verdict.kind != LVT_VERDICT_SNOOZE)
        lvt_stats_count(engine->options.stats, label, outcome_of(event));
    for (const struct lvt_delivery *also = event->joined; also; also = also->next)
        report_joined(engine, event, label);
    enum lvt_level level = describe(event, text, sizeof text);
    if (level < log->level)
        return;
    if (event->type.len > 0)
        fields[count++] = LVT_TEXT("event", event->type);
    if (event->id.len > 0)
        fields[count++] = LVT_TEXT("id", event->id);
    fields[count++] = LVT_INTEGER("duration_ms", (int64_t)event->duration_ms);
    fields[count++] = LVT_INTEGER("attempt", event->attempt);
    fields[count++] = LVT_STRING("queue", event->delivery->queue->name);
    if (event->handler) {
        fields[count++] = LVT_STRING("handler", event->handler->name);
        fields[count++] = LVT_STRING("version", event->handler->version);
    }
    if (event->verdict.reason.len > 0)
        fields[count++] = LVT_TEXT("reason", event->verdict.reason);
    lvt_log(log, level, text, fields, count);
}
