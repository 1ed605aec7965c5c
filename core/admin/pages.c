#include <cjson/cJSON.h>
#include <microhttpd.h>
#include <stdio.h>
#include <string.h>

#include "admin/private.h"

/* A thousand event types make some 4 MB of metrics. */
#define PAGE_BYTES_MAX (16u << 20)

#define PLAIN "text/plain; charset=utf-8"

static void make_metrics(const struct lvt_snapshot *snapshot, struct lvt_page *page) {
    page->content_type = "text/plain; version=0.0.4; charset=utf-8";
    lvt_metrics_write(snapshot, &page->body);
}

static double depth_of_work(const struct lvt_snapshot *snapshot) {
    int64_t depth = 0;
    for (size_t i = 0; i < snapshot->queue_count; i++)
        if (!snapshot->queues[i].dead_letters && snapshot->queues[i].depth > 0)
            depth += snapshot->queues[i].depth;
    return (double)depth;
}

static void make_json(const struct lvt_snapshot *snapshot, struct lvt_page *page) {
    const uint64_t *outcomes = snapshot->stats->outcomes;
    const struct {
        const char *key;
        double value;
    } rows[] = {
        {"processed", (double)outcomes[LVT_OUTCOME_PROCESSED]},
        {"failed", (double)outcomes[LVT_OUTCOME_FAILED]},
        {"retried", (double)outcomes[LVT_OUTCOME_RETRIED]},
        {"duplicates", (double)outcomes[LVT_OUTCOME_DUPLICATE]},
        {"queueDepth", depth_of_work(snapshot)},
        {"uptimeSeconds", (double)snapshot->uptime_s},
    };
    page->content_type = "application/json";
    cJSON *json = cJSON_CreateObject();
    bool whole = json != NULL;
    for (size_t i = 0; whole && i < sizeof rows / sizeof rows[0]; i++)
        whole = cJSON_AddNumberToObject(json, rows[i].key, rows[i].value) != NULL;
    char *text = whole ? cJSON_PrintUnformatted(json) : NULL;
    cJSON_Delete(json);
    if (!text) {
        page->body.failed = true;
        return;
    }
    lvt_buffer_printf(&page->body, "%s\n", text);
    cJSON_free(text);
}

static void make_health(bool well, const char *reason, struct lvt_page *page) {
    page->status = well ? 200 : 503;
    lvt_buffer_printf(&page->body, "%s\n", well ? "ok" : *reason ? reason : "no");
}

static void make_livez(const struct lvt_snapshot *snapshot, struct lvt_page *page) {
    make_health(snapshot->live, snapshot->reason, page);
}

static void make_readyz(const struct lvt_snapshot *snapshot, struct lvt_page *page) {
    make_health(snapshot->ready, snapshot->reason, page);
}

static void make_index(const struct lvt_snapshot *snapshot, struct lvt_page *page);

static const struct {
    const char *path;
    const char *title;
    void (*make)(const struct lvt_snapshot *snapshot, struct lvt_page *page);
} pages[] = {
    {"/", "this list", make_index},
    {"/metrics", "for Prometheus", make_metrics},
    {"/metrics.json", "the counters", make_json},
    {"/livez", "whether the worker works", make_livez},
    {"/readyz", "whether the services it needs are there", make_readyz},
};

static void make_index(const struct lvt_snapshot *snapshot, struct lvt_page *page) {
    (void)snapshot;
    lvt_buffer_text(&page->body, "leveret " LEVERET_VERSION "\n\n");
    for (size_t i = 1; i < sizeof pages / sizeof pages[0]; i++)
        lvt_buffer_printf(&page->body, "%-14s %s\n", pages[i].path, pages[i].title);
}

void lvt_page_make(const struct lvt_admin_source *source, const char *path,
                   struct lvt_page *ret_page) {
    *ret_page = (struct lvt_page){.status = 200, .content_type = PLAIN};
    lvt_buffer_init(&ret_page->body, PAGE_BYTES_MAX);
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        if (strcmp(path, pages[i].path) != 0)
            continue;
        struct lvt_snapshot snapshot = {0};
        source->snapshot(source->ctx, &snapshot);
        pages[i].make(&snapshot, ret_page);
        return;
    }
    ret_page->status = 404;
    lvt_buffer_text(&ret_page->body, "no such page; / lists what there is\n");
}

const char *lvt_admin_library(void) {
    static char text[96];
    snprintf(text, sizeof text, "libmicrohttpd %s, cJSON %s", MHD_get_version(), cJSON_Version());
    return text;
}
