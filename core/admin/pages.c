#include <cjson/cJSON.h>
#include <microhttpd.h>
#include <stdio.h>
#include <string.h>

#include "admin/private.h"

#define PLAIN "text/plain; charset=utf-8"

static void make_metrics(const struct lvt_report *report, struct lvt_page *page) {
    page->content_type = "text/plain; version=0.0.4; charset=utf-8";
    lvt_buffer_append(&page->body, report->metrics.data, report->metrics.len);
}

static void make_json(const struct lvt_report *report, struct lvt_page *page) {
    const uint64_t *outcomes = report->outcomes;
    const struct {
        const char *key;
        double value;
    } rows[] = {
        {"processed", (double)outcomes[LVT_OUTCOME_PROCESSED]},
        {"failed", (double)outcomes[LVT_OUTCOME_FAILED]},
        {"retried", (double)outcomes[LVT_OUTCOME_RETRIED]},
        {"duplicates", (double)outcomes[LVT_OUTCOME_DUPLICATE]},
        {"queueDepth", (double)report->depth},
        {"uptimeSeconds", (double)report->uptime_s},
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

static void make_livez(const struct lvt_report *report, struct lvt_page *page) {
    make_health(report->live, report->reason, page);
}

static void make_readyz(const struct lvt_report *report, struct lvt_page *page) {
    make_health(report->ready, report->reason, page);
}

static void make_index(const struct lvt_report *report, struct lvt_page *page);

static const struct lvt_page_kind pages[] = {
    {"/", "this list", make_index, false},
    {"/metrics", "for Prometheus", make_metrics, true},
    {"/metrics.json", "the counters", make_json, true},
    {"/livez", "whether the worker works", make_livez, true},
    {"/readyz", "whether the services it needs are there", make_readyz, true},
};

static void make_index(const struct lvt_report *report, struct lvt_page *page) {
    (void)report;
    lvt_buffer_text(&page->body, "leveret " LEVERET_VERSION "\n\n");
    for (size_t i = 1; i < sizeof pages / sizeof pages[0]; i++)
        lvt_buffer_printf(&page->body, "%-14s %s\n", pages[i].path, pages[i].title);
}

const struct lvt_page_kind *lvt_page_find(const char *path) {
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++)
        if (strcmp(path, pages[i].path) == 0)
            return &pages[i];
    return NULL;
}

void lvt_page_make(const struct lvt_page_kind *kind, const struct lvt_report *report,
                   struct lvt_page *ret_page) {
    *ret_page = (struct lvt_page){.status = kind ? 200 : 404, .content_type = PLAIN};
    lvt_buffer_init(&ret_page->body, LVT_PAGE_BYTES_MAX);
    if (kind)
        kind->make(report, ret_page);
    else
        lvt_buffer_text(&ret_page->body, "no such page; / lists what there is\n");
}

/* ---- reports ---- */

static int64_t depth_of_work(const struct lvt_snapshot *snapshot) {
    int64_t depth = 0;
    for (size_t i = 0; i < snapshot->queue_count; i++)
        if (!snapshot->queues[i].dead_letters && snapshot->queues[i].depth > 0)
            depth += snapshot->queues[i].depth;
    return depth;
}

void lvt_report_make(const struct lvt_snapshot *snapshot, struct lvt_buffer *metrics,
                     struct lvt_report *ret_report) {
    *ret_report = (struct lvt_report){.live = snapshot->live,
                                      .ready = snapshot->ready,
                                      .depth = depth_of_work(snapshot),
                                      .uptime_s = snapshot->uptime_s};
    memcpy(ret_report->reason, snapshot->reason, sizeof ret_report->reason);
    memcpy(ret_report->outcomes, snapshot->stats->outcomes, sizeof ret_report->outcomes);
    lvt_metrics_write(snapshot, metrics);
    ret_report->metrics = lvt_bytes(metrics->data, metrics->failed ? 0 : metrics->len);
}

const char *lvt_admin_library(void) {
    static char text[96];
    snprintf(text, sizeof text, "libmicrohttpd %s, cJSON %s", MHD_get_version(), cJSON_Version());
    return text;
}
