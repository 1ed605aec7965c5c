/* Cache patterns that a transaction asks for: kept until its commit, then invalidated, and struck
 * from the ledger, which tells of those that a crash or an outage left behind. */
#include <stdlib.h>

#include "engine/run.h"
#include "engine/state.h"

struct lvt_invalidation {
    struct lvt_invalidation *next;
    struct lvt_engine *engine;
    int64_t number; /* the ledger's */
    size_t len;
    char pattern[];
};

static struct lvt_invalidation *make(struct lvt_engine *engine, int64_t number,
                                     struct lvt_bytes pattern) {
    struct lvt_invalidation *invalidation = malloc(sizeof *invalidation + pattern.len);
    if (!invalidation)
        return NULL;
    *invalidation =
        (struct lvt_invalidation){.engine = engine, .number = number, .len = pattern.len};
    memcpy(invalidation->pattern, pattern.data, pattern.len);
    return invalidation;
}

bool lvt_invalidation_keep(struct lvt_run *run, struct lvt_bytes pattern,
                           const struct lvt_rows *rows) {
    struct lvt_bytes number;
    if (!rows->cell(rows->self, 0, 0, &number))
        return false;
    struct lvt_invalidation *later = make(run->engine, strtoll(number.data, NULL, 10), pattern);
    if (!later)
        return false;
    later->next = run->invalidations;
    run->invalidations = later;
    return true;
}

void lvt_invalidations_free(struct lvt_invalidation **list) {
    while (*list) {
        struct lvt_invalidation *invalidation = *list;
        *list = invalidation->next;
        free(invalidation);
    }
}

static void invalidated(void *ctx, enum lvt_answer answer, int64_t removed, const char *error) {
    struct lvt_invalidation *done = ctx;
    struct lvt_engine *engine = done->engine;
    struct lvt_invalidation **at = &engine->invalidating;
    (void)removed;
    /* An error comes again with each try: only an outage is worth another, by the ledger's sweep.
     */
    if (answer == LVT_ANSWER_ERROR)
        LVT_LOG(engine->options.log, LVT_ERROR, "a cache pattern could not be invalidated",
                LVT_TEXT("pattern", lvt_bytes(done->pattern, done->len)),
                LVT_STRING("reason", error));
    if (answer != LVT_ANSWER_OUTAGE)
        engine->ledger.invalidated(engine->ledger.self, done->number);
    while (*at != done)
        at = &(*at)->next;
    *at = done->next;
    free(done);
}

static void invalidate_now(struct lvt_engine *engine, struct lvt_invalidation *invalidation) {
    invalidation->next = engine->invalidating;
    engine->invalidating = invalidation;
    engine->cache.invalidate(engine->cache.self,
                             lvt_bytes(invalidation->pattern, invalidation->len), invalidated,
                             invalidation);
}

void lvt_invalidations_start(struct lvt_engine *engine, struct lvt_run *run) {
    while (run->invalidations) {
        struct lvt_invalidation *invalidation = run->invalidations;
        run->invalidations = invalidation->next;
        invalidate_now(engine, invalidation);
    }
}

void lvt_invalidation_due(void *ctx, int64_t number, struct lvt_bytes pattern) {
    struct lvt_engine *engine = ctx;
    struct lvt_invalidation *invalidation = make(engine, number, pattern);
    if (invalidation) /* else the ledger tells again at its next sweep */
        invalidate_now(engine, invalidation);
}
