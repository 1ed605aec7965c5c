/* A plugin that counts how often each event is handled, in the Redis hash that `key` names. */
#include <stdio.h>
#include <stdlib.h>

#include "leveret/plugin.h"

static const struct leveret_host *host;

struct counts {
    char key[200];
};

/* Its event, until Redis has answered. */
struct count {
    struct leveret_event event;
};

static int32_t open_plugin(struct leveret_handler *handler, struct leveret_text config,
                           void **ret_self, char *error, size_t error_size) {
    struct counts *counts = calloc(1, sizeof *counts);
    (void)handler;
    if (!counts || host->json_string(config, "/key", counts->key, sizeof counts->key) < 0) {
        snprintf(error, error_size, "plugins.counts.key is to name a Redis hash");
        free(counts);
        return 1;
    }
    *ret_self = counts;
    return 0;
}

static void counted(void *ctx, const struct leveret_answer *answer) {
    struct count *count = ctx;
    if (answer->status == LEVERET_STATUS_OK)
        host->finish(count->event, LEVERET_DONE, NULL, -1);
    else
        host->finish(count->event, LEVERET_RETRY, "Redis did not count", -1);
    free(count);
}

static int32_t handle(void *self, struct leveret_event event) {
    struct counts *counts = self;
    struct count *count = malloc(sizeof *count);
    const struct leveret_event_info *info = host->info(event);
    if (!count || !info) {
        free(count);
        return host->finish(event, LEVERET_RETRY, "out of memory", -1);
    }
    count->event = event;
    const struct leveret_text words[] = {leveret_text_of("HINCRBY"), leveret_text_of(counts->key),
                                         info->id, leveret_text_of("1")};
    const struct leveret_answer *refused = host->redis(event, words, 4, counted, count);
    if (refused)
        counted(count, refused);
    return LEVERET_PENDING;
}

static void close_plugin(void *self) {
    free(self);
}

static const char *const events[] = {"count", NULL};

static const struct leveret_plugin plugin = {
    LEVERET_PLUGIN_HEAD, "counts", "1.0", events, NULL, 0, open_plugin, handle, close_plugin,
};

LEVERET_PLUGIN_EXPORT const struct leveret_plugin *
leveret_plugin_entry(const struct leveret_host *the_host);

const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *the_host) {
    host = the_host;
    return &plugin;
}
