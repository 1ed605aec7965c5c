/* The lane's end of the line to its supervisor, which asks how it is. */
#include "admin/line.h"

#include <errno.h>
#include <unistd.h>

#include "lane/state.h"

#define ANSWER_MAX ((size_t)17 << 20)

static void watch(struct lvt_lane *lane);

static void make_answer(struct lvt_lane *lane) {
    struct lvt_lane_line *line = &lane->line;
    struct lvt_line_answer answer;
    struct lvt_snapshot snapshot = {0};
    struct lvt_buffer metrics;
    lvt_buffer_init(&metrics, ANSWER_MAX - sizeof answer);
    lvt_lane_snapshot(lane, &snapshot);
    lvt_report_make(&snapshot, &metrics, &answer.report);
    answer.metrics_len = answer.report.metrics.len;
    lvt_buffer_clear(&line->out);
    line->sent = 0;
    lvt_buffer_append(&line->out, &answer, sizeof answer);
    lvt_buffer_append(&line->out, answer.report.metrics.data, answer.report.metrics.len);
    if (line->out.failed) { /* how it is, at least */
        lvt_buffer_free(&line->out);
        answer.metrics_len = 0;
        lvt_buffer_append(&line->out, &answer, sizeof answer);
    }
    lvt_buffer_free(&metrics);
}

static void send_answer(struct lvt_lane *lane) {
    struct lvt_lane_line *line = &lane->line;
    while (line->sent < line->out.len) {
        ssize_t written = write(lane->options.post->line, line->out.data + line->sent,
                                line->out.len - line->sent);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        line->sent += (size_t)written;
    }
    lvt_buffer_free(&line->out); /* which may be large */
    line->sent = 0;
}

static void ready(uv_poll_t *poll, int status, int events) {
    struct lvt_lane *lane = poll->data;
    char questions[64];
    (void)status, (void)events;
    ssize_t count = read(lane->options.post->line, questions, sizeof questions);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) {
        uv_poll_stop(poll); /* the supervisor is gone, and this process soon will be */
        return;
    }
    if (count > 0 && lane->line.out.len == 0)
        make_answer(lane);
    send_answer(lane);
    watch(lane);
}

static void watch(struct lvt_lane *lane) {
    int events = UV_READABLE | (lane->line.out.len > 0 ? UV_WRITABLE : 0);
    uv_poll_start(&lane->line.poll, events, ready);
}

enum leveret_code lvt_lane_line_open(struct lvt_lane *lane, struct leveret_error *err) {
    struct lvt_lane_line *line = &lane->line;
    lvt_buffer_init(&line->out, ANSWER_MAX);
    if (uv_poll_init(&lane->loop.uv, &line->poll, lane->options.post->line) != 0)
        return leveret_fail(err, LEVERET_SYSTEM, "the line to the supervisor cannot be watched");
    line->poll.data = lane;
    line->open = true;
    watch(lane);
    return LEVERET_OK;
}

void lvt_lane_line_close(struct lvt_lane *lane) {
    if (!lane->line.open)
        return;
    uv_close((uv_handle_t *)&lane->line.poll, NULL);
    lvt_buffer_free(&lane->line.out);
    lane->line.open = false;
}

void lvt_lane_beat(struct lvt_lane *lane, bool is_ready) {
    struct lvt_blackbox *box = lane->options.post->box;
    atomic_fetch_add_explicit(&box->beats, 1, memory_order_relaxed);
    atomic_store_explicit(&box->ready, is_ready, memory_order_relaxed);
}
