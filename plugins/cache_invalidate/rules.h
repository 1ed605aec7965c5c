/* Which cache keys an event makes stale. */
#ifndef LEVERET_PLUGINS_CACHE_INVALIDATE_RULES_H
#define LEVERET_PLUGINS_CACHE_INVALIDATE_RULES_H

#include <leveret/plugin.h>

extern const struct leveret_host *host;

#define PATTERNS_MAX 16 /* of one type */

/* The patterns of one type of events: Redis's globs, in which {id} stands for the payload's field
 * of that name, and {/ticket/id} for what is at that JSON pointer. */
struct rule {
    char *type;
    char *patterns[PATTERNS_MAX + 1]; /* ends with NULL */
    size_t count;
};

struct rules {
    struct rule *items;
    size_t count;
};

/* Reads the configuration's `patterns`. False, with nothing to free and a text in error, when they
 * are wrong. */
bool rules_read(struct leveret_text config, struct rules *ret_rules, char *error,
                size_t error_size);
void rules_free(struct rules *rules);
/* NULL when there is none. */
const struct rule *rules_find(const struct rules *rules, struct leveret_text type);

/* Writes the pattern for this payload into the buffer; its length. -1, with a text in error: the
 * payload has no such field, or it does not fit. */
int64_t pattern_expand(const char *pattern, struct leveret_text payload, char *buffer, size_t size,
                       char *error, size_t error_size);

#endif
