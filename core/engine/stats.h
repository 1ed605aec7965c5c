/* What has happened so far, as plain counters. They belong to the loop's thread: no locks. */
#ifndef LEVERET_ENGINE_STATS_H
#define LEVERET_ENGINE_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "engine/ports.h"

/* What became of an event, or of one attempt at it (RETRIED). */
#define LVT_OUTCOMES(XX)                                                                           \
    XX(PROCESSED, "processed")                                                                     \
    XX(FAILED, "failed")                                                                           \
    XX(RETRIED, "retried")                                                                         \
    XX(DUPLICATE, "duplicate")                                                                     \
    XX(DROPPED, "dropped")

enum lvt_outcome {
#define XX(name, text) LVT_OUTCOME_##name,
    LVT_OUTCOMES(XX)
#undef XX
        LVT_OUTCOME_COUNT,
};

/* Distinct event types that are counted by name, and how long a name may be. Events of any other
 * type count as "other": whoever publishes must not be able to fill the memory. */
#define LVT_STATS_TYPES_MAX 1000
#define LVT_STATS_TYPE_BYTES_MAX 255

#define LVT_HISTOGRAM_BOUNDS 15

struct lvt_histogram {
    uint64_t buckets[LVT_HISTOGRAM_BOUNDS + 1]; /* each without those below; the last: +Inf */
    uint64_t sum_ms;
    uint64_t count;
};

/* Upper bounds of the buckets. */
extern const uint64_t lvt_handler_bounds_ms[LVT_HISTOGRAM_BOUNDS];
extern const uint64_t lvt_age_bounds_ms[LVT_HISTOGRAM_BOUNDS];

/* How long one version of a handler took. Of each event type the last few versions are kept. */
#define LVT_STATS_VERSIONS_MAX 4

struct lvt_run_stats {
    struct lvt_run_stats *next;
    struct lvt_histogram seconds;
    char version[13];
    char handler[];
};

struct lvt_event_stats {
    struct lvt_event_stats *hash_next;
    struct lvt_event_stats *next; /* in the order in which the types were first seen */
    struct lvt_bytes type;        /* NUL-terminated */
    uint64_t outcomes[LVT_OUTCOME_COUNT];
    uint64_t published[LVT_PUBLISH_DROPPED + 1]; /* by enum lvt_publish_result */
    struct lvt_run_stats *runs;                  /* newest version first */
    struct lvt_histogram age;                    /* how old events were when a handler began */
};

/* What came of a change of a handler's file. */
#define LVT_RELOADS(XX)                                                                            \
    XX(OK, "ok")                                                                                   \
    XX(ADDED, "added")                                                                             \
    XX(REMOVED, "removed")                                                                         \
    XX(FAILED, "failed")

enum lvt_reload_result {
#define XX(name, text) LVT_RELOAD_##name,
    LVT_RELOADS(XX)
#undef XX
        LVT_RELOAD_RESULT_COUNT,
};

/* Handlers whose reloads are counted by name; the others count as "other". */
#define LVT_STATS_RELOADS_MAX 1000

struct lvt_reload_stats {
    struct lvt_reload_stats *next;
    uint64_t results[LVT_RELOAD_RESULT_COUNT];
    char handler[];
};

#define LVT_STATS_BUCKETS 1024

struct lvt_stats {
    struct lvt_event_stats *table[LVT_STATS_BUCKETS];
    struct lvt_event_stats *first, **last; /* all of them; "other" only once it has counted */
    struct lvt_event_stats other;
    size_t type_count;
    bool other_listed;
    struct lvt_reload_stats *reloads; /* newest first */
    size_t reload_count;
    uint64_t outcomes[LVT_OUTCOME_COUNT]; /* of all types */
    uint64_t events_without_id;
    uint64_t in_flight; /* events whose handler runs, or whose end is being settled */
    uint64_t started_ms;
};

/* now_ms is the lane's clock, for the uptime. NULL when out of memory. */
struct lvt_stats *lvt_stats_new(uint64_t now_ms);
void lvt_stats_free(struct lvt_stats *stats);

/* The counters of one type. Give an empty type for events that no handler is there for and for
 * those without a type: they count as "other". Never NULL; stays valid as long as stats does. */
struct lvt_event_stats *lvt_stats_event(struct lvt_stats *stats, struct lvt_bytes type);

void lvt_stats_count(struct lvt_stats *stats, struct lvt_bytes type, enum lvt_outcome outcome);
void lvt_stats_count_published(struct lvt_stats *stats, struct lvt_bytes type,
                               enum lvt_publish_result result);
/* Not counted when there is no memory for a version that was never counted before. */
void lvt_stats_observe_handler(struct lvt_stats *stats, struct lvt_bytes type, const char *handler,
                               const char *version, uint64_t duration_ms);
void lvt_stats_observe_age(struct lvt_stats *stats, struct lvt_bytes type, uint64_t age_ms);

/* Not counted when there is no memory for a handler that was never counted before. */
void lvt_stats_count_reload(struct lvt_stats *stats, const char *handler,
                            enum lvt_reload_result result);

/* "ok", ... */
const char *lvt_reload_text(enum lvt_reload_result result);

/* "processed", ... */
const char *lvt_outcome_text(enum lvt_outcome outcome);

#endif
