/* The pages of all lanes as one. Each lane is asked when somebody asks; one that does not answer
 * within a second is left out. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/line.h"
#include "base/clock.h"
#include "supervisor/merge.h"
#include "supervisor/private.h"

#define WAIT_MS 1000
#define TEXT_MAX ((size_t)16 << 20)

/* ---- asking ---- */

void lvt_reports_asked(void *ctx) {
    struct lvt_supervisor *supervisor = ctx;
    for (size_t i = 0; i < supervisor->count; i++) {
        struct lvt_ward *ward = &supervisor->wards[i];
        ward->reported = false;
        /* Its line would block only if it had not read a thousand such questions. */
        if (ward->pid > 0 && !ward->owes_report)
            ward->owes_report = write(ward->line, "?", 1) == 1;
    }
    supervisor->collecting = true;
    supervisor->collect_until_ms = lvt_now_ms() + WAIT_MS;
}

/* Without its metrics those of before count: counters never go down. */
static void take_answer(struct lvt_ward *ward) {
    if (ward->incoming.len > 0 && !ward->incoming.failed) {
        struct lvt_buffer before = ward->metrics;
        ward->metrics = ward->incoming;
        ward->incoming = before;
    }
    ward->report = ward->answer.report;
    ward->report.metrics = lvt_bytes(ward->metrics.data, ward->metrics.len);
    ward->owes_report = false;
    ward->reported = true;
    ward->received = 0;
    lvt_buffer_clear(&ward->incoming);
}

/* Counts what there is no memory for, too: the next answer begins behind it. */
static void take_piece(struct lvt_ward *ward, const char *piece, size_t len) {
    size_t head = sizeof ward->answer;
    size_t of_head = ward->received < head ? head - ward->received : 0;
    if (of_head > len)
        of_head = len;
    if (of_head > 0)
        memcpy((char *)&ward->answer + ward->received, piece, of_head);
    lvt_buffer_append(&ward->incoming, piece + of_head, len - of_head);
    ward->received += len;
    if (ward->received >= head && ward->received - head >= ward->answer.metrics_len)
        take_answer(ward);
}

/* Its end is its process's, of which we are told otherwise. */
void lvt_report_receive(struct lvt_ward *ward) {
    char piece[65536];
    ssize_t len;
    while ((len = read(ward->line, piece, sizeof piece)) > 0)
        take_piece(ward, piece, (size_t)len);
}

/* ---- what was counted by those that are gone ---- */

static void add_departed(struct lvt_supervisor *supervisor, const struct lvt_report *report) {
    struct lvt_merge *merge = lvt_merge_new();
    struct lvt_buffer sum;
    lvt_buffer_init(&sum, TEXT_MAX);
    lvt_merge_add_counters(merge, lvt_bytes(supervisor->departed.data, supervisor->departed.len));
    lvt_merge_add_counters(merge, report->metrics);
    lvt_merge_write(merge, &sum);
    lvt_merge_free(merge);
    if (sum.failed) {
        lvt_buffer_free(&sum);
        return;
    }
    lvt_buffer_free(&supervisor->departed);
    supervisor->departed = sum;
    for (size_t i = 0; i < LVT_OUTCOME_COUNT; i++)
        supervisor->departed_outcomes[i] += report->outcomes[i];
}

void lvt_report_depart(struct lvt_supervisor *supervisor, struct lvt_ward *ward) {
    if (ward->report.metrics.len > 0)
        add_departed(supervisor, &ward->report);
    ward->report = (struct lvt_report){0};
    ward->owes_report = ward->reported = false;
    ward->received = 0;
    lvt_buffer_clear(&ward->incoming);
    lvt_buffer_clear(&ward->metrics);
}

/* ---- answering ---- */

static void set_reason(const struct lvt_supervisor *supervisor, const struct lvt_ward *ward,
                       const char *text, struct lvt_report *report) {
    if (report->reason[0])
        return;
    if (supervisor->count > 1)
        snprintf(report->reason, sizeof report->reason, "lane %u: %.200s", ward->number, text);
    else
        snprintf(report->reason, sizeof report->reason, "%.200s", text);
}

static void add_health(const struct lvt_supervisor *supervisor, const struct lvt_ward *ward,
                       uint64_t now_ms, struct lvt_report *report) {
    if (ward->reported) {
        report->live = report->live && ward->report.live;
        report->ready = report->ready && ward->report.ready;
        if (!ward->report.ready || !ward->report.live)
            set_reason(supervisor, ward, ward->report.reason, report);
        return;
    }
    report->live = report->live && !lvt_ward_lost(supervisor, ward, now_ms);
    report->ready = false;
    set_reason(supervisor, ward,
               ward->pid == 0 ? "it died, and is started again" : "it does not answer", report);
}

static void write_own(const struct lvt_supervisor *supervisor, size_t answered,
                      struct lvt_buffer *out) {
    lvt_buffer_printf(out,
                      "# HELP leveret_lanes Lanes that answered.\n# TYPE leveret_lanes gauge\n"
                      "leveret_lanes %zu\n",
                      answered);
    lvt_buffer_printf(out,
                      "# HELP leveret_lane_restarts_total Lanes that were started again.\n"
                      "# TYPE leveret_lane_restarts_total counter\n"
                      "leveret_lane_restarts_total %llu\n",
                      (unsigned long long)supervisor->restarts);
}

static void answer(struct lvt_supervisor *supervisor, uint64_t now_ms) {
    struct lvt_report report = {.live = true, .ready = true};
    struct lvt_merge *merge = lvt_merge_new();
    struct lvt_buffer metrics;
    size_t answered = 0;
    memcpy(report.outcomes, supervisor->departed_outcomes, sizeof report.outcomes);
    report.uptime_s = (now_ms - supervisor->started_ms) / 1000;
    for (size_t i = 0; i < supervisor->count; i++) {
        const struct lvt_ward *ward = &supervisor->wards[i];
        add_health(supervisor, ward, now_ms, &report);
        /* One that was slow this time counts with what it said before: counters never go down. */
        answered += ward->reported;
        if (ward->reported)
            lvt_merge_add(merge, ward->report.metrics);
        else
            lvt_merge_add_counters(merge, ward->report.metrics);
        for (size_t k = 0; k < LVT_OUTCOME_COUNT; k++)
            report.outcomes[k] += ward->report.outcomes[k];
        if (ward->report.depth > report.depth)
            report.depth = ward->report.depth;
    }
    lvt_merge_add_counters(merge, lvt_bytes(supervisor->departed.data, supervisor->departed.len));
    lvt_buffer_init(&metrics, TEXT_MAX);
    lvt_merge_write(merge, &metrics);
    lvt_merge_free(merge);
    write_own(supervisor, answered, &metrics);
    report.metrics = lvt_bytes(metrics.data, metrics.failed ? 0 : metrics.len);
    supervisor->collecting = false; /* before more are asked for */
    lvt_server_report(supervisor->server, &report);
    lvt_buffer_free(&metrics);
}

void lvt_reports_step(struct lvt_supervisor *supervisor, uint64_t now_ms) {
    if (!supervisor->collecting)
        return;
    for (size_t i = 0; i < supervisor->count; i++)
        if (supervisor->wards[i].owes_report && now_ms < supervisor->collect_until_ms)
            return;
    answer(supervisor, now_ms);
}
