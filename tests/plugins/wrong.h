/* For plugins that are wrong in one way: a descriptor that would do, which each spoils. */
#ifndef LEVERET_TESTS_PLUGINS_WRONG_H
#define LEVERET_TESTS_PLUGINS_WRONG_H

#include <stdio.h>

#include "leveret/plugin.h"

static int32_t open_plugin(struct leveret_handler *handler, struct leveret_text config,
                           void **ret_self, char *error, size_t error_size) {
    (void)handler, (void)config, (void)ret_self, (void)error, (void)error_size;
    return 0;
}

static int32_t handle(void *self, struct leveret_event event) {
    (void)self, (void)event;
    return LEVERET_DONE;
}

static void close_plugin(void *self) {
    (void)self;
}

static const char *const events[] = {"wrong", NULL};

static struct leveret_plugin plugin = {
    LEVERET_PLUGIN_HEAD, "wrong", "1", events, NULL, 0, open_plugin, handle, close_plugin,
};

static void spoil(void);

const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *host) {
    (void)host;
    spoil();
    return &plugin;
}

#endif
