/* Removes keys by pattern: SCAN to the end, UNLINK what each step found.
 *
 * A pass may have gone by a key that is written while it runs. So a request that comes during a
 * pass over its pattern is for the next pass; all that come until that begins share it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/private.h"

#define SCAN_COUNT "1000"
#define PATTERN_BYTES_MAX 65536
/* Passes under way at a time: each step costs Redis some 100 µs, and other commands wait for it. */
#define PASSES_MAX 8
#define WAITERS_MAX 10000

struct waiter {
    struct waiter *next;
    lvt_invalidate_done *done;
    void *ctx;
};

struct lvt_pass {
    struct lvt_pass *hash_next;
    struct lvt_pass *queue_next;
    struct lvt_cache *cache;
    bool running;
    struct waiter *waiters; /* who gets this pass's count */
    struct waiter *late;    /* and the next one's */
    unsigned replies;       /* still out */
    int64_t removed;
    enum lvt_answer answer;
    char error[200];
    struct lvt_bytes pattern;
};

static void start_queued(struct lvt_cache *cache);

static void waiters_answer(struct lvt_cache *cache, struct waiter *waiter, enum lvt_answer answer,
                           int64_t removed, const char *error) {
    while (waiter) {
        struct waiter *next = waiter->next;
        cache->waiter_count--;
        waiter->done(waiter->ctx, answer, removed, error);
        free(waiter);
        waiter = next;
    }
}

/* ---- the passes, by pattern ---- */

static struct lvt_pass **bucket_of(struct lvt_cache *cache, struct lvt_bytes pattern) {
    return &cache->passes[lvt_bytes_hash(pattern) % LVT_PASS_BUCKETS];
}

static struct lvt_pass *pass_find(struct lvt_cache *cache, struct lvt_bytes pattern) {
    struct lvt_pass *pass = *bucket_of(cache, pattern);
    while (pass && !lvt_bytes_equal(pass->pattern, pattern))
        pass = pass->hash_next;
    return pass;
}

static void enqueue(struct lvt_pass *pass) {
    struct lvt_cache *cache = pass->cache;
    pass->queue_next = NULL;
    if (cache->passes_queued_last)
        cache->passes_queued_last->queue_next = pass;
    else
        cache->passes_queued = pass;
    cache->passes_queued_last = pass;
}

static struct lvt_pass *pass_new(struct lvt_cache *cache, struct lvt_bytes pattern) {
    struct lvt_pass *pass = calloc(1, sizeof *pass + pattern.len);
    if (!pass)
        return NULL;
    char *copy = (char *)(pass + 1);
    memcpy(copy, pattern.data, pattern.len);
    pass->cache = cache;
    pass->pattern = lvt_bytes(copy, pattern.len);
    struct lvt_pass **bucket = bucket_of(cache, pattern);
    pass->hash_next = *bucket;
    *bucket = pass;
    enqueue(pass);
    return pass;
}

static void pass_free(struct lvt_pass *pass) {
    struct lvt_pass **at = bucket_of(pass->cache, pass->pattern);
    while (*at != pass)
        at = &(*at)->hash_next;
    *at = pass->hash_next;
    free(pass);
}

static void waiters_free(struct lvt_cache *cache, struct waiter *waiter) {
    while (waiter) {
        struct waiter *next = waiter->next;
        cache->waiter_count--;
        free(waiter);
        waiter = next;
    }
}

/* ---- one pass ---- */

static void pass_fail(struct lvt_pass *pass, enum lvt_answer answer, const char *error) {
    if (pass->answer != LVT_ANSWER_OK)
        return;
    pass->answer = answer;
    snprintf(pass->error, sizeof pass->error, "%s", error);
}

static void pass_end(struct lvt_pass *pass) {
    struct lvt_cache *cache = pass->cache;
    struct waiter *waiters = pass->waiters;
    enum lvt_answer answer = pass->answer;
    int64_t removed = pass->removed;
    char error[sizeof pass->error];
    memcpy(error, pass->error, sizeof error);
    cache->passes_running--;
    if (pass->late) {
        pass->running = false;
        pass->waiters = pass->late;
        pass->late = NULL;
        enqueue(pass);
    } else {
        pass_free(pass);
    }
    start_queued(cache);
    waiters_answer(cache, waiters, answer, removed, answer == LVT_ANSWER_OK ? NULL : error);
}

static void unlinked(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                     const char *error) {
    struct lvt_pass *pass = ctx;
    if (answer == LVT_ANSWER_OK)
        pass->removed += reply->integer;
    else
        pass_fail(pass, answer, error);
    if (--pass->replies == 0)
        pass_end(pass);
}

static void unlink_keys(struct lvt_pass *pass, const struct lvt_reply *keys) {
    struct lvt_bytes *argv = malloc((keys->count + 1) * sizeof *argv);
    if (!argv) {
        pass_fail(pass, LVT_ANSWER_OUTAGE, "out of memory");
        return;
    }
    argv[0] = LVT_LITERAL("UNLINK");
    for (size_t i = 0; i < keys->count; i++)
        argv[i + 1] = keys->items[i].text;
    if (lvt_cache_send(pass->cache, argv, keys->count + 1, unlinked, pass))
        pass->replies++;
    else
        pass_fail(pass, LVT_ANSWER_OUTAGE, "out of memory");
    free(argv);
}

static void scanned(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                    const char *error);

static void scan(struct lvt_pass *pass, struct lvt_bytes cursor) {
    const struct lvt_bytes argv[] = {LVT_LITERAL("SCAN"),  cursor,
                                     LVT_LITERAL("MATCH"), pass->pattern,
                                     LVT_LITERAL("COUNT"), LVT_LITERAL(SCAN_COUNT)};
    if (lvt_cache_send(pass->cache, argv, 6, scanned, pass))
        pass->replies++;
    else
        pass_fail(pass, LVT_ANSWER_OUTAGE, "out of memory");
}

static void scanned(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                    const char *error) {
    struct lvt_pass *pass = ctx;
    if (answer != LVT_ANSWER_OK) {
        pass_fail(pass, answer, error);
    } else if (reply->count != 2 || reply->items[1].kind != LVT_REPLY_ARRAY) {
        pass_fail(pass, LVT_ANSWER_ERROR, "an answer to SCAN that is not Redis's");
    } else if (pass->answer == LVT_ANSWER_OK) {
        if (reply->items[1].count > 0)
            unlink_keys(pass, &reply->items[1]);
        if (!lvt_bytes_is(reply->items[0].text, "0"))
            scan(pass, reply->items[0].text);
    }
    if (--pass->replies == 0)
        pass_end(pass);
}

static void start_queued(struct lvt_cache *cache) {
    while (cache->passes_queued && cache->passes_running < PASSES_MAX) {
        struct lvt_pass *pass = cache->passes_queued;
        cache->passes_queued = pass->queue_next;
        if (!cache->passes_queued)
            cache->passes_queued_last = NULL;
        cache->passes_running++;
        pass->running = true;
        pass->removed = 0;
        pass->answer = LVT_ANSWER_OK;
        scan(pass, LVT_LITERAL("0"));
        if (pass->replies > 0)
            continue;
        /* Out of memory: those who wait stay without an answer. */
        cache->passes_running--;
        waiters_free(cache, pass->waiters);
        pass_free(pass);
    }
}

/* ---- requests ---- */

static void single_done(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                        const char *error) {
    struct waiter *waiter = ctx;
    waiter->done(waiter->ctx, answer, reply ? reply->integer : 0, error);
    free(waiter);
}

static bool join_pass(struct lvt_cache *cache, struct lvt_bytes pattern, struct waiter *waiter) {
    struct lvt_pass *pass = pass_find(cache, pattern);
    if (!pass)
        pass = pass_new(cache, pattern);
    if (!pass)
        return false;
    struct waiter **list = pass->running ? &pass->late : &pass->waiters;
    waiter->next = *list;
    *list = waiter;
    cache->waiter_count++;
    start_queued(cache);
    return true;
}

void lvt_cache_invalidate(struct lvt_cache *cache, struct lvt_bytes pattern,
                          lvt_invalidate_done *done, void *ctx) {
    struct waiter *waiter = malloc(sizeof *waiter);
    if (!waiter)
        return;
    *waiter = (struct waiter){.done = done, .ctx = ctx};
    bool glob = false;
    for (size_t i = 0; i < pattern.len && !glob; i++)
        glob = strchr("*?[\\", pattern.data[i]) && pattern.data[i];
    const struct lvt_bytes argv[] = {LVT_LITERAL("UNLINK"), pattern};
    bool taken;
    if (pattern.len > PATTERN_BYTES_MAX)
        taken = lvt_cache_refuse(cache, LVT_ANSWER_ERROR, "a pattern of more than 64 KiB",
                                 single_done, waiter);
    else if (!glob)
        taken = lvt_cache_send(cache, argv, 2, single_done, waiter);
    else if (cache->waiter_count >= WAITERS_MAX)
        taken = lvt_cache_refuse(cache, LVT_ANSWER_OUTAGE, "too many invalidations wait for Redis",
                                 single_done, waiter);
    else
        taken = join_pass(cache, pattern, waiter);
    if (!taken)
        free(waiter);
}
