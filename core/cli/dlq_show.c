#include "cli/dlq.h"

#define OUTPUT_MAX ((size_t)256 << 20)
#define LIMIT_DEFAULT 10

struct showing {
    struct lvt_dlq *dlq;
    struct lvt_buffer out;
    uint64_t shown, limit;
};

static enum leveret_code show(void *ctx, struct lvt_letter *letter, struct leveret_error *err) {
    struct showing *showing = ctx;
    struct lvt_dlq *dlq = showing->dlq;
    (void)err;
    if (dlq->options.raw) {
        lvt_buffer_append(&showing->out, letter->delivery->body.data, letter->delivery->body.len);
    } else if (dlq->options.json) {
        lvt_buffer_text(&showing->out, showing->shown > 0 ? ",\n" : "");
        lvt_dlq_write_letter_json(&showing->out, dlq->queue, letter);
    } else {
        lvt_buffer_text(&showing->out, showing->shown > 0 ? "\n" : "");
        lvt_dlq_write_letter(&showing->out, dlq->queue, letter);
    }
    showing->shown++;
    lvt_delivery_free(letter->delivery);
    return LEVERET_OK;
}

static bool enough(void *ctx) {
    const struct showing *showing = ctx;
    return showing->shown >= showing->limit || showing->out.failed;
}

/* All of it is gathered before it is printed: a pager that waits must not make the broker wait. */
enum leveret_code lvt_dlq_show(struct lvt_dlq *dlq, struct leveret_error *err) {
    static const struct lvt_dlq_visitor visitor = {.letter = show, .enough = enough};
    struct showing showing = {.dlq = dlq, .limit = dlq->options.limit};
    if (dlq->options.raw)
        showing.limit = 1;
    else if (showing.limit == UINT64_MAX)
        showing.limit = LIMIT_DEFAULT;
    lvt_buffer_init(&showing.out, OUTPUT_MAX);
    lvt_buffer_text(&showing.out, dlq->options.json ? "[" : "");
    enum leveret_code code = lvt_dlq_walk(dlq, &visitor, &showing, err);
    if (code == LEVERET_OK && dlq->options.json)
        lvt_buffer_text(&showing.out, "]\n");
    else if (code == LEVERET_OK && showing.shown == 0 && !dlq->options.raw)
        lvt_buffer_text(&showing.out, "no dead letters fit\n");
    if (code == LEVERET_OK && showing.shown == 0 && dlq->options.raw)
        code = leveret_fail(err, LEVERET_INVALID, "no dead letter fits");
    if (code == LEVERET_OK)
        return lvt_dlq_print(&showing.out, err);
    lvt_buffer_free(&showing.out);
    return code;
}
