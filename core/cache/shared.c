/* All handlers share one connection. Commands that change what it is, or keep it from answering the
 * next one, are refused here: they would break every other handler's commands. */
#include <strings.h>

#include "cache/private.h"

#define PUSH "is not possible: it turns the connection that all handlers share into a subscription"
#define BLOCK                                                                                      \
    "is not possible: it blocks the connection that all handlers share; use the command"           \
    " without the wait, and ctx.snooze or ctx.sleep"
#define QUEUE "is not possible: commands of other handlers would get into the transaction; use EVAL"
#define STATE "is not possible: it changes the connection that all handlers share"

static const struct {
    const char *command;
    const char *word; /* refused only with this word among the arguments; NULL: always */
    const char *why;
} refusals[] = {
    {"SUBSCRIBE", NULL, "SUBSCRIBE " PUSH},
    {"PSUBSCRIBE", NULL, "PSUBSCRIBE " PUSH},
    {"SSUBSCRIBE", NULL, "SSUBSCRIBE " PUSH},
    {"UNSUBSCRIBE", NULL, "UNSUBSCRIBE " PUSH},
    {"PUNSUBSCRIBE", NULL, "PUNSUBSCRIBE " PUSH},
    {"SUNSUBSCRIBE", NULL, "SUNSUBSCRIBE " PUSH},
    {"MONITOR", NULL, "MONITOR " PUSH},
    {"SYNC", NULL, "SYNC " PUSH},
    {"PSYNC", NULL, "PSYNC " PUSH},
    {"BLPOP", NULL, "BLPOP " BLOCK},
    {"BRPOP", NULL, "BRPOP " BLOCK},
    {"BRPOPLPUSH", NULL, "BRPOPLPUSH " BLOCK},
    {"BLMOVE", NULL, "BLMOVE " BLOCK},
    {"BLMPOP", NULL, "BLMPOP " BLOCK},
    {"BZPOPMIN", NULL, "BZPOPMIN " BLOCK},
    {"BZPOPMAX", NULL, "BZPOPMAX " BLOCK},
    {"BZMPOP", NULL, "BZMPOP " BLOCK},
    {"WAIT", NULL, "WAIT " BLOCK},
    {"WAITAOF", NULL, "WAITAOF " BLOCK},
    {"XREAD", "BLOCK", "XREAD with BLOCK " BLOCK},
    {"XREADGROUP", "BLOCK", "XREADGROUP with BLOCK " BLOCK},
    {"MULTI", NULL, "MULTI " QUEUE},
    {"EXEC", NULL, "EXEC " QUEUE},
    {"DISCARD", NULL, "DISCARD " QUEUE},
    {"WATCH", NULL, "WATCH " QUEUE},
    {"UNWATCH", NULL, "UNWATCH " QUEUE},
    {"AUTH", NULL, "AUTH " STATE},
    {"HELLO", NULL, "HELLO " STATE},
    {"SELECT", NULL, "SELECT " STATE "; the database is set in redis.url"},
    {"RESET", NULL, "RESET " STATE},
    {"QUIT", NULL, "QUIT " STATE},
    {"CLIENT", NULL, "CLIENT " STATE},
    {"SCRIPT", "DEBUG", "SCRIPT DEBUG " STATE},
    {"READONLY", NULL, "READONLY " STATE},
    {"READWRITE", NULL, "READWRITE " STATE},
    {"ASKING", NULL, "ASKING " STATE},
};

static bool is_word(struct lvt_bytes text, const char *word) {
    size_t len = strlen(word);
    return text.len == len && strncasecmp(text.data, word, len) == 0;
}

/* The keys of XREAD come after STREAMS and may be called anything. */
static bool has_word(const struct lvt_bytes *argv, size_t argc, const char *word) {
    for (size_t i = 1; i < argc && !is_word(argv[i], "STREAMS"); i++)
        if (is_word(argv[i], word))
            return true;
    return false;
}

const char *lvt_command_refusal(const struct lvt_bytes *argv, size_t argc) {
    if (argc == 0 || argv[0].len == 0)
        return "a Redis command without a name";
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        if (is_word(argv[0], refusals[i].command) &&
            (!refusals[i].word || has_word(argv, argc, refusals[i].word)))
            return refusals[i].why;
    return NULL;
}
