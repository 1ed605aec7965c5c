/* The C twin of the benchmark's Lua handler: three fields and a line. */
#include <stdio.h>

#include "leveret/plugin.h"

static const struct leveret_host *host;
static char line[512];

static int32_t open_plugin(struct leveret_handler *handler, struct leveret_text config,
                           void **ret_self, char *error, size_t error_size) {
    (void)handler, (void)config, (void)ret_self, (void)error, (void)error_size;
    return 0;
}

static int32_t handle(void *self, struct leveret_event event) {
    struct leveret_text payload = host->info(event)->payload;
    char id[128], title[128], owner[128];
    (void)self;
    if (host->json_string(payload, "/id", id, sizeof id) < 0 ||
        host->json_string(payload, "/title", title, sizeof title) < 0 ||
        host->json_string(payload, "/ownerId", owner, sizeof owner) < 0)
        return host->finish(event, LEVERET_REJECT, "the payload is no ticket", -1);
    snprintf(line, sizeof line, "ticket created %s %s %s", id, title, owner);
    return LEVERET_DONE;
}

static void close_plugin(void *self) {
    (void)self;
}

static const char *const events[] = {"ticket.created", NULL};

static const struct leveret_plugin plugin = {
    LEVERET_PLUGIN_HEAD,
    "bench",
    "1.0",
    events,
    "{\"queue\": \"bench.work\", \"bind\": false}",
    0,
    open_plugin,
    handle,
    close_plugin,
};

const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *the_host) {
    host = the_host;
    return &plugin;
}
