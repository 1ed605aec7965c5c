#include "engine/stats.h"

#include <stdio.h>
#include <stdlib.h>

const uint64_t lvt_handler_bounds_ms[LVT_HISTOGRAM_BOUNDS] = {
    1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000,
};

/* An event that waited out its retries or an outage is hours old: these go further. */
const uint64_t lvt_age_bounds_ms[LVT_HISTOGRAM_BOUNDS] = {
    5, 10, 50, 100, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 900000, 3600000, 86400000,
};

struct lvt_stats *lvt_stats_new(uint64_t now_ms) {
    struct lvt_stats *stats = calloc(1, sizeof *stats);
    if (!stats)
        return NULL;
    stats->last = &stats->first;
    stats->other.type = LVT_LITERAL("other");
    stats->started_ms = now_ms;
    return stats;
}

static void free_runs(struct lvt_run_stats *runs) {
    while (runs) {
        struct lvt_run_stats *next = runs->next;
        free(runs);
        runs = next;
    }
}

void lvt_stats_free(struct lvt_stats *stats) {
    if (!stats)
        return;
    struct lvt_event_stats *event = stats->first;
    while (event) {
        struct lvt_event_stats *next = event->next;
        free_runs(event->runs);
        if (event != &stats->other)
            free(event);
        event = next;
    }
    while (stats->reloads) {
        struct lvt_reload_stats *next = stats->reloads->next;
        free(stats->reloads);
        stats->reloads = next;
    }
    free(stats);
}

static void append(struct lvt_stats *stats, struct lvt_event_stats *event) {
    *stats->last = event;
    stats->last = &event->next;
}

static struct lvt_event_stats *other(struct lvt_stats *stats) {
    if (!stats->other_listed) {
        append(stats, &stats->other);
        stats->other_listed = true;
    }
    return &stats->other;
}

struct lvt_event_stats *lvt_stats_event(struct lvt_stats *stats, struct lvt_bytes type) {
    if (type.len == 0 || type.len > LVT_STATS_TYPE_BYTES_MAX || lvt_bytes_is(type, "other"))
        return other(stats);
    struct lvt_event_stats **bucket = &stats->table[lvt_bytes_hash(type) % LVT_STATS_BUCKETS];
    for (struct lvt_event_stats *event = *bucket; event; event = event->hash_next)
        if (lvt_bytes_equal(event->type, type))
            return event;
    if (stats->type_count >= LVT_STATS_TYPES_MAX)
        return other(stats);
    struct lvt_event_stats *event = calloc(1, sizeof *event + type.len + 1);
    if (!event)
        return other(stats);
    char *name = (char *)(event + 1);
    memcpy(name, type.data, type.len);
    event->type = lvt_bytes(name, type.len);
    event->hash_next = *bucket;
    *bucket = event;
    append(stats, event);
    stats->type_count++;
    return event;
}

void lvt_stats_count(struct lvt_stats *stats, struct lvt_bytes type, enum lvt_outcome outcome) {
    lvt_stats_event(stats, type)->outcomes[outcome]++;
    stats->outcomes[outcome]++;
}

void lvt_stats_count_published(struct lvt_stats *stats, struct lvt_bytes type,
                               enum lvt_publish_result result) {
    lvt_stats_event(stats, type)->published[result]++;
}

static void observe(struct lvt_histogram *histogram, const uint64_t *bounds_ms, uint64_t value_ms) {
    size_t i = 0;
    while (i < LVT_HISTOGRAM_BOUNDS && value_ms > bounds_ms[i])
        i++;
    histogram->buckets[i]++;
    histogram->sum_ms += value_ms;
    histogram->count++;
}

/* The newest goes to the front, and the oldest goes. */
static struct lvt_run_stats *add_runs(struct lvt_event_stats *event, const char *handler,
                                      const char *version) {
    struct lvt_run_stats *runs = calloc(1, sizeof *runs + strlen(handler) + 1);
    if (!runs)
        return NULL;
    memcpy(runs->handler, handler, strlen(handler) + 1);
    snprintf(runs->version, sizeof runs->version, "%s", version);
    runs->next = event->runs;
    event->runs = runs;
    struct lvt_run_stats *last = runs;
    for (int i = 1; i < LVT_STATS_VERSIONS_MAX && last->next; i++)
        last = last->next;
    free_runs(last->next);
    last->next = NULL;
    return runs;
}

void lvt_stats_observe_handler(struct lvt_stats *stats, struct lvt_bytes type, const char *handler,
                               const char *version, uint64_t duration_ms) {
    struct lvt_event_stats *event = lvt_stats_event(stats, type);
    struct lvt_run_stats *runs = event->runs;
    while (runs && (strcmp(runs->version, version) != 0 || strcmp(runs->handler, handler) != 0))
        runs = runs->next;
    if (!runs)
        runs = add_runs(event, handler, version);
    if (runs)
        observe(&runs->seconds, lvt_handler_bounds_ms, duration_ms);
}

void lvt_stats_observe_age(struct lvt_stats *stats, struct lvt_bytes type, uint64_t age_ms) {
    observe(&lvt_stats_event(stats, type)->age, lvt_age_bounds_ms, age_ms);
}

static struct lvt_reload_stats *find_reloads(struct lvt_stats *stats, const char *handler) {
    struct lvt_reload_stats *reloads = stats->reloads;
    while (reloads && strcmp(reloads->handler, handler) != 0)
        reloads = reloads->next;
    return reloads;
}

void lvt_stats_count_reload(struct lvt_stats *stats, const char *handler,
                            enum lvt_reload_result result) {
    struct lvt_reload_stats *reloads = find_reloads(stats, handler);
    if (!reloads && stats->reload_count >= LVT_STATS_RELOADS_MAX) {
        handler = "other";
        reloads = find_reloads(stats, handler);
    }
    if (!reloads) {
        reloads = calloc(1, sizeof *reloads + strlen(handler) + 1);
        if (!reloads)
            return;
        memcpy(reloads->handler, handler, strlen(handler) + 1);
        reloads->next = stats->reloads;
        stats->reloads = reloads;
        stats->reload_count++;
    }
    reloads->results[result]++;
}

const char *lvt_reload_text(enum lvt_reload_result result) {
    static const char *const texts[] = {
#define XX(name, text) [LVT_RELOAD_##name] = text,
        LVT_RELOADS(XX)
#undef XX
    };
    return result < LVT_RELOAD_RESULT_COUNT ? texts[result] : "unknown";
}

const char *lvt_outcome_text(enum lvt_outcome outcome) {
    static const char *const texts[] = {
#define XX(name, text) [LVT_OUTCOME_##name] = text,
        LVT_OUTCOMES(XX)
#undef XX
    };
    return outcome < LVT_OUTCOME_COUNT ? texts[outcome] : "unknown";
}
