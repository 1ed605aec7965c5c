#include "cli/dlq.h"

#define OUTPUT_MAX ((size_t)256 << 20)

struct listing {
    struct lvt_dlq *dlq;
    struct lvt_letter_groups groups;
};

static enum leveret_code count(void *ctx, struct lvt_letter *letter, struct leveret_error *err) {
    struct listing *listing = ctx;
    enum leveret_code code = lvt_groups_add(&listing->groups, listing->dlq->queue, letter, err);
    lvt_delivery_free(letter->delivery);
    return code;
}

enum leveret_code lvt_dlq_list(struct lvt_dlq *dlq, struct leveret_error *err) {
    static const struct lvt_dlq_visitor visitor = {.letter = count};
    struct listing listing = {.dlq = dlq};
    struct lvt_buffer out;
    enum leveret_code code = lvt_dlq_walk(dlq, &visitor, &listing, err);
    if (code == LEVERET_OK) {
        lvt_buffer_init(&out, OUTPUT_MAX);
        lvt_groups_sort(&listing.groups);
        if (dlq->options.json) {
            lvt_dlq_write_groups_json(&out, &listing.groups);
            lvt_buffer_char(&out, '\n');
        } else {
            lvt_dlq_write_groups(&out, &listing.groups);
        }
        code = lvt_dlq_print(&out, err);
    }
    lvt_groups_free(&listing.groups);
    return code;
}
