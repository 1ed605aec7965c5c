#include <stdio.h>
#include <unistd.h>

#include "cli/dlq.h"

#define OUTPUT_MAX ((size_t)256 << 20)

struct discarding {
    struct lvt_dlq *dlq;
    bool only_counts;
    uint64_t limit, discarded;
    struct lvt_letter_groups groups;
};

static enum leveret_code discard(void *ctx, struct lvt_letter *letter, struct leveret_error *err) {
    struct discarding *discarding = ctx;
    enum leveret_code code = LEVERET_OK;
    if (discarding->only_counts)
        code = lvt_groups_add(&discarding->groups, discarding->dlq->queue, letter, err);
    else
        code = lvt_dlq_remove(discarding->dlq, letter->delivery, err);
    discarding->discarded += code == LEVERET_OK;
    lvt_delivery_free(letter->delivery);
    return code;
}

static bool enough(void *ctx) {
    const struct discarding *discarding = ctx;
    return discarding->discarded >= discarding->limit;
}

static enum leveret_code walk(struct discarding *discarding, bool only_counts,
                              struct leveret_error *err) {
    static const struct lvt_dlq_visitor visitor = {.letter = discard, .enough = enough};
    discarding->only_counts = only_counts;
    discarding->discarded = 0;
    return lvt_dlq_walk(discarding->dlq, &visitor, discarding, err);
}

static enum leveret_code print(struct discarding *discarding, bool dry_run,
                               struct leveret_error *err) {
    struct lvt_buffer out;
    lvt_buffer_init(&out, OUTPUT_MAX);
    lvt_groups_sort(&discarding->groups);
    if (discarding->dlq->options.json) {
        lvt_buffer_printf(&out, "{\"discarded\":%llu,\"dry_run\":%s,\"interrupted\":%s",
                          dry_run ? 0ULL : (unsigned long long)discarding->discarded,
                          dry_run ? "true" : "false",
                          atomic_load(&lvt_program_stop) ? "true" : "false");
        if (dry_run) {
            lvt_buffer_text(&out, ",\"would_discard\":");
            lvt_dlq_write_groups_json(&out, &discarding->groups);
        }
        lvt_buffer_text(&out, "}\n");
    } else if (dry_run) {
        lvt_dlq_write_groups(&out, &discarding->groups);
        lvt_buffer_printf(&out, "a dry run: %llu would be discarded\n",
                          (unsigned long long)discarding->discarded);
    } else {
        lvt_buffer_printf(&out, "discarded %llu\n", (unsigned long long)discarding->discarded);
    }
    return lvt_dlq_print(&out, err);
}

/* Nobody reads from the broker meanwhile, so the connections are closed before. */
static bool confirmed(struct discarding *discarding, struct leveret_error *err) {
    char answer[16];
    lvt_dlq_disconnect(discarding->dlq);
    if (print(discarding, true, err) != LEVERET_OK)
        return false;
    fprintf(stderr, "Discard these %llu for good? [y/N] ",
            (unsigned long long)discarding->discarded);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

/* What is shown is counted first, and no more than that is discarded then. */
static enum leveret_code ask(struct discarding *discarding, struct leveret_error *err) {
    enum leveret_code code = walk(discarding, true, err);
    if (code != LEVERET_OK)
        return code;
    discarding->limit = discarding->discarded;
    if (discarding->discarded > 0 &&
        (atomic_load(&lvt_program_stop) || !confirmed(discarding, err))) {
        discarding->discarded = discarding->limit = 0;
        return LEVERET_OK;
    }
    return discarding->dlq->letters ? LEVERET_OK : lvt_dlq_connect(discarding->dlq, err);
}

enum leveret_code lvt_dlq_discard(struct lvt_dlq *dlq, struct leveret_error *err) {
    struct discarding discarding = {.dlq = dlq, .limit = dlq->options.limit};
    bool dry_run = dlq->options.dry_run;
    enum leveret_code code = LEVERET_OK;
    if (!dry_run && !dlq->options.yes)
        code = ask(&discarding, err);
    if (code == LEVERET_OK && discarding.limit > 0)
        code = walk(&discarding, dry_run, err);
    if (code == LEVERET_OK)
        code = print(&discarding, dry_run, err);
    lvt_groups_free(&discarding.groups);
    return code;
}
