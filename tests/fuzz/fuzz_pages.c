/* The pages about events of any name: the metrics keep to their format, also those of two lanes
 * together, and the JSON is JSON. The input is a path, a reason, and then names of events and
 * queues, a line each. */
#include "admin/private.h"
#include "base/utf8.h"
#include "event/json.h"
#include "fuzz.h"
#include "supervisor/merge.h"

#define NAMES_MAX 8

struct world {
    struct lvt_stats *stats;
    char *reason, *names[NAMES_MAX];
    struct lvt_queue_figures queues[NAMES_MAX];
    size_t count;
};

/* Every line is a comment, or a name and a value with the labels between them closed. */
static void check_metrics(const struct lvt_buffer *body) {
    struct lvt_bytes rest = lvt_bytes(body->data, body->len);
    while (rest.len > 0) {
        struct lvt_bytes line = fuzz_line(&rest);
        bool quoted = false;
        if (line.len > 0 && line.data[0] == '#')
            continue;
        FUZZ_CHECK(line.len > 8 && memcmp(line.data, "leveret_", 8) == 0);
        for (size_t i = 0; i < line.len; i++) {
            if (quoted && line.data[i] == '\\')
                i++;
            else if (line.data[i] == '"')
                quoted = !quoted;
        }
        FUZZ_CHECK(!quoted);
    }
    for (size_t at = 0, step; at < body->len; at += step)
        FUZZ_CHECK((step = lvt_utf8_length(body->data + at, body->len - at)) > 0);
}

static void check_sums(struct lvt_bytes metrics) {
    struct lvt_merge *merge = lvt_merge_new();
    struct lvt_buffer sums;
    lvt_buffer_init(&sums, LVT_PAGE_BYTES_MAX);
    lvt_merge_add(merge, metrics);
    lvt_merge_add(merge, metrics);
    lvt_merge_add_counters(merge, metrics);
    lvt_merge_write(merge, &sums);
    FUZZ_CHECK(!sums.failed);
    check_metrics(&sums);
    lvt_buffer_free(&sums);
    lvt_merge_free(merge);
}

static void make_page(const struct lvt_report *report, const char *path) {
    struct lvt_page page;
    struct leveret_error err;
    lvt_page_make(lvt_page_find(path), report, &page);
    FUZZ_CHECK(!page.body.failed && page.status >= 200);
    if (strcmp(path, "/metrics") == 0)
        check_metrics(&page.body);
    if (strcmp(path, "/metrics.json") == 0)
        FUZZ_CHECK(lvt_json_validate(lvt_bytes(page.body.data, page.body.len), 8, &err) ==
                   LEVERET_OK);
    lvt_buffer_free(&page.body);
}

static void make_pages(const struct world *world, const char *path) {
    struct lvt_connection_figures connected = {"rabbitmq", true};
    struct lvt_snapshot snapshot = {.stats = world->stats,
                                    .connected = {connected},
                                    .connected_count = 1,
                                    .queues = world->queues,
                                    .queue_count = world->count};
    struct lvt_buffer metrics;
    struct lvt_report report;
    lvt_buffer_init(&metrics, LVT_PAGE_BYTES_MAX);
    snprintf(snapshot.reason, sizeof snapshot.reason, "%s", world->reason);
    lvt_report_make(&snapshot, &metrics, &report);
    make_page(&report, path);
    make_page(&report, "/metrics");
    make_page(&report, "/metrics.json");
    check_sums(report.metrics);
    lvt_buffer_free(&metrics);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct lvt_bytes rest = lvt_bytes((const char *)data, size);
    struct world world = {.stats = lvt_stats_new(0)};
    FUZZ_CHECK(world.stats);
    char *path = fuzz_text(fuzz_line(&rest));
    world.reason = fuzz_text(fuzz_line(&rest));
    while (rest.len > 0 && world.count < NAMES_MAX) {
        struct lvt_bytes name = fuzz_line(&rest);
        lvt_stats_count(world.stats, name, LVT_OUTCOME_PROCESSED);
        char *text = fuzz_text(name);
        lvt_stats_observe_handler(world.stats, name, text, "1234567", name.len);
        world.names[world.count] = text;
        world.queues[world.count] =
            (struct lvt_queue_figures){world.names[world.count], false, 1, 1};
        world.count++;
    }
    make_pages(&world, path);
    for (size_t i = 0; i < world.count; i++)
        free(world.names[i]);
    free(world.reason);
    free(path);
    lvt_stats_free(world.stats);
    return 0;
}
