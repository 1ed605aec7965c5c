/* A blocking plugin that does what the event's payload says: {"do": "query"}. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "leveret/plugin.h"
#include "publish_request.h"

static const struct leveret_host *host;

static int32_t open_plugin(struct leveret_handler *handler, struct leveret_text config,
                           void **ret_self, char *error, size_t error_size) {
    (void)config, (void)error, (void)error_size;
    *ret_self = handler;
    return 0;
}

static void close_plugin(void *self) {
    host->log(self, LEVERET_LOG_INFO, "waits is closed", NULL, 0);
}

static int32_t end(struct leveret_event event, const struct leveret_answer *answer) {
    char reason[200];
    if (answer->status == LEVERET_STATUS_OK)
        return LEVERET_DONE;
    snprintf(reason, sizeof reason, "status %d: %.*s", answer->status, (int)answer->error.len,
             answer->error.data);
    return host->finish(event, LEVERET_RETRY, reason, -1);
}

static int32_t state(struct leveret_event event) {
    const struct leveret_text sql =
        leveret_text_of("insert into waits (number) values ($1) returning number, null as none");
    const struct leveret_text number = leveret_text_of("7");
    const struct leveret_answer *answer = host->query(event, sql, &number, 1, NULL, NULL);
    if (answer->status == LEVERET_STATUS_OK) {
        size_t last = answer->column_count - 1;
        struct leveret_field fields[] = {
            leveret_field_text("number", answer->cells[0]),
            leveret_field_text("last", answer->columns[last].name),
            leveret_field_integer("nulls", answer->cells[last].data == NULL),
            leveret_field_integer("count", answer->count),
        };
        host->event_log(event, LEVERET_LOG_INFO, "answered", fields, 4);
    }
    return end(event, answer);
}

static int32_t publish(struct leveret_event event, bool in_transaction) {
    struct publish_request request;
    if (in_transaction)
        host->query(event, leveret_text_of("select 1"), NULL, 0, NULL, NULL);
    const struct leveret_answer *answer =
        host->publish(event, publish_read(host, host->info(event), &request), NULL, NULL);
    struct leveret_field field = leveret_field_text("published", answer->id);
    if (answer->status == LEVERET_STATUS_OK)
        host->event_log(event, LEVERET_LOG_INFO, "published", &field, 1);
    return end(event, answer);
}

static void block(int64_t ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void called_back(void *ctx, const struct leveret_answer *answer) {
    (void)ctx, (void)answer;
}

static int32_t handle(void *self, struct leveret_event event) {
    const struct leveret_event_info *info = host->info(event);
    char action[32] = "";
    int64_t ms = 0;
    (void)self;
    host->json_string(info->payload, "/do", action, sizeof action);
    host->json_integer(info->payload, "/ms", &ms);
    if (strcmp(action, "query") == 0)
        return state(event);
    if (strcmp(action, "publish") == 0 || strcmp(action, "publish in transaction") == 0)
        return publish(event, strlen(action) > 7);
    if (strcmp(action, "redis") == 0) {
        const struct leveret_text words[] = {leveret_text_of("SET"), leveret_text_of("waits:key"),
                                             info->id};
        return end(event, host->redis(event, words, 3, NULL, NULL));
    }
    if (strcmp(action, "sleep") == 0)
        return end(event, host->sleep(event, (uint64_t)ms, NULL, NULL));
    if (strcmp(action, "callback") == 0)
        return end(event, host->sleep(event, 1, called_back, NULL));
    if (strcmp(action, "block") == 0) {
        block(ms);
        const struct leveret_answer *answer = host->sleep(event, 1, NULL, NULL);
        struct leveret_field field = leveret_field_integer("status", answer->status);
        host->log(self, LEVERET_LOG_INFO, "came back", &field, 1);
        (void)host->json_valid(info->queue); /* which reads all of it */
        return end(event, answer);
    }
    if (strcmp(action, "linger") == 0) {
        host->finish(event, LEVERET_DONE, NULL, -1);
        block(ms);
        return LEVERET_PENDING;
    }
    if (strcmp(action, "unknown") == 0)
        return -1;
    return LEVERET_DONE;
}

static const char *const events[] = {"wait", NULL};

static const struct leveret_plugin plugin = {
    LEVERET_PLUGIN_HEAD,
    "waits",
    "2.0",
    events,
    "{\"queue\": \"waits.queue\", \"concurrency\": 4, \"timeout_ms\": 2000, "
    "\"retry\": {\"max\": 1, \"base_ms\": 1}}",
    LEVERET_PLUGIN_BLOCKING,
    open_plugin,
    handle,
    close_plugin,
};

const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *the_host) {
    host = the_host;
    return &plugin;
}
