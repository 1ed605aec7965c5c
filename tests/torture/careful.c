/* A plugin that does what the payload's "do" says, and looks at every answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "leveret/plugin.h"

static const struct leveret_host *host;

struct job {
    struct leveret_event event;
};

static void end(struct job *job, const struct leveret_answer *answer) {
    bool good = answer->status == LEVERET_STATUS_OK;
    host->finish(job->event, good ? LEVERET_DONE : LEVERET_RETRY, good ? NULL : "no answer", -1);
    free(job);
}

static void slept(void *ctx, const struct leveret_answer *answer) {
    end(ctx, answer);
}

static void published(void *ctx, const struct leveret_answer *answer) {
    struct job *job = ctx;
    const struct leveret_answer *refused = answer;
    if (answer->status == LEVERET_STATUS_OK)
        refused = host->sleep(job->event, 1, slept, job);
    if (refused)
        end(job, refused);
}

static void replied(void *ctx, const struct leveret_answer *answer) {
    struct job *job = ctx;
    const struct leveret_answer *refused = answer;
    const struct leveret_header header = {
        leveret_text_of("colour"), LEVERET_HEADER_INTEGER, 7, 0, {NULL, 0}};
    struct leveret_publish publish =
        leveret_publish(leveret_text_of("act"), leveret_text_of("{\"do\": \"done\"}"));
    publish.id = leveret_text_of("published"); /* no number: those are the events that are sent */
    publish.headers = &header;
    publish.header_count = 1;
    if (answer->status == LEVERET_STATUS_OK)
        refused = host->publish(job->event, &publish, published, job);
    if (refused)
        end(job, refused);
}

static int32_t ask_redis(struct leveret_event event) {
    const struct leveret_text words[] = {leveret_text_of("SET"), leveret_text_of("careful:key"),
                                         host->info(event)->id};
    struct job *job = malloc(sizeof *job);
    if (!job)
        return LEVERET_RETRY;
    job->event = event;
    const struct leveret_answer *refused = host->redis(event, words, 3, replied, job);
    if (refused)
        end(job, refused);
    return LEVERET_PENDING;
}

static int32_t handle(void *self, struct leveret_event event) {
    const struct leveret_event_info *info = host->info(event);
    char action[32] = "";
    (void)self;
    if (host->json_string(info->payload, "/do", action, sizeof action) < 0)
        return host->finish(event, LEVERET_REJECT, "nothing to do", -1);
    if (strcmp(action, "ask") == 0)
        return ask_redis(event);
    if (strcmp(action, "retry") == 0 && info->attempt == 1)
        return host->finish(event, LEVERET_RETRY, "not yet", -1);
    return strcmp(action, "drop") == 0 ? LEVERET_DROP : LEVERET_DONE;
}

static int32_t open_plugin(struct leveret_handler *handler, struct leveret_text config,
                           void **ret_self, char *error, size_t error_size) {
    (void)handler, (void)config;
    *ret_self = malloc(1);
    if (!*ret_self)
        snprintf(error, error_size, "out of memory");
    return *ret_self ? 0 : -1;
}

static void close_plugin(void *self) {
    free(self);
}

static const char *const events[] = {"act", NULL};

static const struct leveret_plugin plugin = {
    LEVERET_PLUGIN_HEAD,
    "careful",
    "1.0",
    events,
    "{\"queue\": \"careful.queue\", \"timeout_ms\": 500, \"retry\": {\"max\": 2, \"base_ms\": 1}}",
    0,
    open_plugin,
    handle,
    close_plugin,
};

const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *the_host) {
    host = the_host;
    return &plugin;
}
