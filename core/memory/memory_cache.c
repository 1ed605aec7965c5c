#include "memory/memory_cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "memory/memory_table.h"

/* What was asked for, done already; the asker hears of it at the next poll. There are no more of
 * them than askers that wait. */
struct answer {
    struct answer *next;
    enum lvt_answer kind;
    bool is_reply;
    union {
        lvt_reply_done *reply;
        lvt_invalidate_done *invalidate;
    } done;
    void *ctx;
    struct lvt_reply reply; /* its text follows this struct; the count of an invalidation */
    char error[120];
    char text[];
};

struct lvt_memory_cache {
    struct lvt_table table;
    struct answer *answers, **answers_last;
    bool ready;
};

enum leveret_code lvt_memory_cache_new(struct lvt_memory_cache **ret_cache,
                                       struct leveret_error *err) {
    struct lvt_memory_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the embedded cache");
    cache->table.bytes_max = LVT_MEMORY_CACHE_BYTES_MAX;
    cache->answers_last = &cache->answers;
    cache->ready = true;
    *ret_cache = cache;
    return LEVERET_OK;
}

void lvt_memory_cache_free(struct lvt_memory_cache *cache) {
    if (!cache)
        return;
    while (cache->answers) {
        struct answer *next = cache->answers->next;
        free(cache->answers);
        cache->answers = next;
    }
    lvt_table_free(&cache->table);
    free(cache);
}

/* ---- commands ---- */

struct result {
    enum lvt_answer kind;
    struct lvt_reply reply; /* its text belongs to the table, or is static */
    char error[120];
};

static void fail(struct result *result, const char *error) {
    result->kind = LVT_ANSWER_ERROR;
    snprintf(result->error, sizeof result->error, "%s", error);
}

static void reply_integer(struct result *result, int64_t integer) {
    result->reply = (struct lvt_reply){.kind = LVT_REPLY_INTEGER, .integer = integer};
}

static void do_get(struct lvt_table *table, const struct lvt_bytes *argv, size_t argc,
                   struct result *result) {
    (void)argc;
    if (lvt_table_get(table, argv[1], &result->reply.text))
        result->reply.kind = LVT_REPLY_STRING;
}

static bool set(struct lvt_table *table, struct lvt_bytes key, struct lvt_bytes value,
                struct result *result) {
    enum leveret_code code = lvt_table_set(table, key, value);
    if (code == LEVERET_TOO_BIG)
        fail(result, "OOM the embedded cache is full: it holds 64 MiB of keys and values");
    else if (code != LEVERET_OK)
        fail(result, "OOM out of memory for a key of the embedded cache");
    return code == LEVERET_OK;
}

static void do_set(struct lvt_table *table, const struct lvt_bytes *argv, size_t argc,
                   struct result *result) {
    (void)argc;
    if (set(table, argv[1], argv[2], result))
        result->reply = (struct lvt_reply){.kind = LVT_REPLY_STATUS, .text = LVT_LITERAL("OK")};
}

static void do_remove(struct lvt_table *table, const struct lvt_bytes *argv, size_t argc,
                      struct result *result) {
    int64_t removed = 0;
    for (size_t i = 1; i < argc; i++)
        removed += lvt_table_remove(table, argv[i]);
    reply_integer(result, removed);
}

static void do_exists(struct lvt_table *table, const struct lvt_bytes *argv, size_t argc,
                      struct result *result) {
    struct lvt_bytes value;
    int64_t found = 0;
    for (size_t i = 1; i < argc; i++)
        found += lvt_table_get(table, argv[i], &value);
    reply_integer(result, found);
}

/* Spelt as Redis spells integers: no sign but a minus, no zeros in front. */
static bool read_integer(struct lvt_bytes text, int64_t *ret_value) {
    char copy[24], again[24];
    if (text.len == 0 || text.len >= sizeof copy)
        return false;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    int64_t value = strtoll(copy, NULL, 10);
    snprintf(again, sizeof again, "%" PRId64, value);
    if (!lvt_bytes_is(text, again))
        return false;
    *ret_value = value;
    return true;
}

static void add(struct lvt_table *table, struct lvt_bytes key, int64_t amount,
                struct result *result) {
    struct lvt_bytes text;
    char spelt[24];
    int64_t value = 0;
    if (lvt_table_get(table, key, &text) && !read_integer(text, &value)) {
        fail(result, "ERR value is not an integer or out of range");
        return;
    }
    if (__builtin_add_overflow(value, amount, &value)) {
        fail(result, "ERR increment or decrement would overflow");
        return;
    }
    snprintf(spelt, sizeof spelt, "%" PRId64, value);
    if (set(table, key, lvt_bytes_of(spelt), result))
        reply_integer(result, value);
}

static void do_incr(struct lvt_table *table, const struct lvt_bytes *argv, size_t argc,
                    struct result *result) {
    (void)argc;
    add(table, argv[1], 1, result);
}

static void do_incrby(struct lvt_table *table, const struct lvt_bytes *argv, size_t argc,
                      struct result *result) {
    int64_t amount;
    (void)argc;
    if (read_integer(argv[2], &amount))
        add(table, argv[1], amount, result);
    else
        fail(result, "ERR value is not an integer or out of range");
}

static const struct command {
    const char *name;
    size_t argc_min, argc_max;
    void (*run)(struct lvt_table *table, const struct lvt_bytes *argv, size_t argc,
                struct result *result);
} commands[] = {
    {"GET", 2, 2, do_get},           {"SET", 3, 3, do_set},
    {"DEL", 2, SIZE_MAX, do_remove}, {"UNLINK", 2, SIZE_MAX, do_remove},
    {"INCR", 2, 2, do_incr},         {"EXISTS", 2, SIZE_MAX, do_exists},
    {"INCRBY", 3, 3, do_incrby},
};

static const struct command *find_command(struct lvt_bytes name) {
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strlen(commands[i].name) == name.len &&
            strncasecmp(commands[i].name, name.data, name.len) == 0)
            return &commands[i];
    return NULL;
}

static const struct result away = {.kind = LVT_ANSWER_OUTAGE,
                                   .error = "the embedded cache is away"};

static void run_command(struct lvt_memory_cache *cache, const struct lvt_bytes *argv, size_t argc,
                        struct result *result) {
    const struct command *command = argc > 0 ? find_command(argv[0]) : NULL;
    char error[120];
    if (!cache->ready) {
        *result = away;
    } else if (!command) {
        int len = argc > 0 && argv[0].len < 30 ? (int)argv[0].len : 0;
        snprintf(error, sizeof error,
                 "ERR the embedded cache does not know the command %.*s: it needs a real Redis",
                 len, len ? argv[0].data : "");
        fail(result, error);
    } else if (argc < command->argc_min || argc > command->argc_max) {
        snprintf(error, sizeof error,
                 "ERR the embedded cache does not know %s with these arguments", command->name);
        fail(result, error);
    } else {
        command->run(&cache->table, argv, argc, result);
    }
}

/* ---- answers ---- */

/* NULL when out of memory: then the answer never comes, and the handler's timeout ends its run. */
static struct answer *queue_answer(struct lvt_memory_cache *cache, const struct result *result,
                                   void *ctx) {
    struct lvt_bytes text = result->reply.text;
    struct answer *answer = malloc(sizeof *answer + text.len);
    if (!answer)
        return NULL;
    *answer = (struct answer){.kind = result->kind, .ctx = ctx, .reply = result->reply};
    if (text.len > 0)
        memcpy(answer->text, text.data, text.len);
    answer->reply.text = lvt_bytes(answer->text, text.len);
    memcpy(answer->error, result->error, sizeof answer->error);
    *cache->answers_last = answer;
    cache->answers_last = &answer->next;
    return answer;
}

static void port_command(void *self, const struct lvt_bytes *argv, size_t argc,
                         lvt_reply_done *done, void *ctx) {
    struct lvt_memory_cache *cache = self;
    struct result result = {.kind = LVT_ANSWER_OK, .reply.kind = LVT_REPLY_NIL};
    run_command(cache, argv, argc, &result);
    struct answer *answer = queue_answer(cache, &result, ctx);
    if (answer) {
        answer->is_reply = true;
        answer->done.reply = done;
    }
}

static void port_invalidate(void *self, struct lvt_bytes pattern, lvt_invalidate_done *done,
                            void *ctx) {
    struct lvt_memory_cache *cache = self;
    struct result result = {.kind = LVT_ANSWER_OK};
    if (!cache->ready)
        result = away;
    else
        result.reply.integer = (int64_t)lvt_table_remove_fitting(&cache->table, pattern);
    struct answer *answer = queue_answer(cache, &result, ctx);
    if (answer)
        answer->done.invalidate = done;
}

struct lvt_cache_port lvt_memory_cache_port(struct lvt_memory_cache *cache) {
    return (struct lvt_cache_port){cache, port_command, port_invalidate};
}

static void tell(const struct answer *answer) {
    const char *error = answer->kind == LVT_ANSWER_OK ? NULL : answer->error;
    if (answer->is_reply)
        answer->done.reply(answer->ctx, answer->kind, error ? NULL : &answer->reply, error);
    else
        answer->done.invalidate(answer->ctx, answer->kind, answer->reply.integer, error);
}

void lvt_memory_cache_poll(struct lvt_memory_cache *cache) {
    struct answer *answer = cache->answers;
    cache->answers = NULL; /* what these answers lead to being asked waits for the next poll */
    cache->answers_last = &cache->answers;
    while (answer) {
        struct answer *next = answer->next;
        tell(answer);
        free(answer);
        answer = next;
    }
}

bool lvt_memory_cache_pending(const struct lvt_memory_cache *cache) {
    return cache->answers != NULL;
}

void lvt_memory_cache_set_ready(struct lvt_memory_cache *cache, bool ready) {
    cache->ready = ready;
}
