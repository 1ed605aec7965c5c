/* What may be cleaned up, by the names that events give it: folders and tables. */
#ifndef LEVERET_PLUGINS_CLEANUP_TARGETS_H
#define LEVERET_PLUGINS_CLEANUP_TARGETS_H

#include "common/failure.h"

#define LVT_TARGETS_MAX 256
#define LVT_TARGET_NAME_MAX 63

struct lvt_target {
    char name[LVT_TARGET_NAME_MAX + 2];
    char *path;           /* of a folder, without a slash at the end; NULL: it is a table */
    char *table, *column; /* a table and its column of times, each quoted as it is needed in SQL */
};

struct lvt_targets {
    struct lvt_target items[LVT_TARGETS_MAX];
    size_t count;
};

/* Reads {name: {path} or {table, column}}. */
bool lvt_targets_read(struct lvt_targets *targets, const struct leveret_host *host,
                      struct leveret_text table, struct lvt_failure *failure);
void lvt_targets_free(struct lvt_targets *targets);

/* "NAME", or of a folder "NAME/a/folder/below", which *ret_below is then. NULL: there is none. */
const struct lvt_target *lvt_targets_find(const struct lvt_targets *targets, const char *text,
                                          const char **ret_below);

#endif
