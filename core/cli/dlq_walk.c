#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "cli/dlq.h"

#define WAIT_MS 100
/* Well within the half hour that the broker lets a letter be unacked. */
#define PASS_MS (10 * 60 * 1000)
#define PROGRESS_MS 200
/* So many letters are handed out before the broker would drop them, at least. */
#define DROP_MARGIN 5

enum leveret_code lvt_dlq_connect(struct lvt_dlq *dlq, struct leveret_error *err) {
    const struct lvt_config *config = &dlq->program.config;
    const struct lvt_letters_options options = {.url = config->rabbitmq.url,
                                                .ca_file = config->rabbitmq.ca_file,
                                                .heartbeat_s = config->rabbitmq.heartbeat_s,
                                                .name = "leveret dlq",
                                                .stop = &lvt_program_stop};
    return lvt_letters_open(&options, &dlq->letters, err);
}

void lvt_dlq_disconnect(struct lvt_dlq *dlq) {
    lvt_letters_free(dlq->letters);
    dlq->letters = NULL;
}

enum leveret_code lvt_dlq_remove(struct lvt_dlq *dlq, const struct lvt_delivery *letter,
                                 struct leveret_error *err) {
    enum leveret_code code = lvt_letters_remove(dlq->letters, letter, err);
    dlq->removed += code == LEVERET_OK;
    return code;
}

/* ---- one pass over one queue ---- */

struct pass {
    struct lvt_dlq *dlq;
    const struct lvt_dlq_visitor *visitor;
    void *ctx;
    uint64_t depth;
    uint64_t drops_after; /* see struct lvt_letters_queue */
    uint64_t due_ms;
    bool late; /* its time is over */
};

static void show_progress(struct pass *pass) {
    struct lvt_dlq *dlq = pass->dlq;
    if (!dlq->on_terminal || lvt_now_ms() < dlq->progress_at_ms)
        return;
    dlq->progress_at_ms = lvt_now_ms() + PROGRESS_MS;
    fprintf(stderr, "\r\x1b[K%s: %llu of %llu letters%s", dlq->queue, (unsigned long long)dlq->seen,
            (unsigned long long)pass->depth,
            lvt_letters_blocked(dlq->letters) ? "; RabbitMQ takes no messages for the moment" : "");
}

static void clear_progress(const struct lvt_dlq *dlq) {
    if (dlq->on_terminal)
        fputs("\r\x1b[K", stderr);
}

static enum leveret_code check_limit(const struct pass *pass, const struct lvt_letter *letter,
                                     struct leveret_error *err) {
    if (pass->drops_after == 0 || (uint64_t)letter->handed_out + DROP_MARGIN < pass->drops_after)
        return LEVERET_OK;
    return leveret_fail(err, LEVERET_REFUSED,
                        "the letters of \"%s\" have been handed out %lld times, and the broker "
                        "drops them after %llu: raise the queue's delivery limit by a policy, or "
                        "move them to a queue that leveret declares",
                        pass->dlq->queue, (long long)letter->handed_out,
                        (unsigned long long)pass->drops_after);
}

/* Takes the delivery over. */
static enum leveret_code visit(struct pass *pass, struct lvt_delivery *delivery,
                               struct leveret_error *err) {
    struct lvt_letter letter;
    pass->dlq->seen++;
    enum leveret_code code = lvt_letter_read(delivery, &letter, err);
    if (code == LEVERET_OK)
        code = check_limit(pass, &letter, err);
    if (code == LEVERET_OK && lvt_letter_fits(&pass->dlq->options.filter, &letter))
        return pass->visitor->letter(pass->ctx, &letter, err);
    lvt_delivery_free(delivery);
    return code;
}

static bool wants_more(const struct pass *pass) {
    return !pass->late && !atomic_load(&lvt_program_stop) &&
           !(pass->visitor->enough && pass->visitor->enough(pass->ctx));
}

static int wait_ms(const struct pass *pass) {
    return pass->visitor->wait_ms ? pass->visitor->wait_ms(pass->ctx) : 0;
}

static bool busy(const struct pass *pass) {
    return pass->visitor->busy && pass->visitor->busy(pass->ctx);
}

static enum leveret_code visit_all(struct pass *pass, struct leveret_error *err) {
    struct lvt_letters *letters = pass->dlq->letters;
    struct lvt_delivery *delivery;
    while (wants_more(pass) && wait_ms(pass) == 0 && (delivery = lvt_letters_next(letters))) {
        enum leveret_code code = visit(pass, delivery, err);
        if (code != LEVERET_OK)
            return code;
    }
    return LEVERET_OK;
}

static enum leveret_code run_pass(struct pass *pass, uint64_t most, struct leveret_error *err) {
    struct lvt_dlq *dlq = pass->dlq;
    enum leveret_code code = lvt_letters_begin(dlq->letters, dlq->queue, most, err);
    pass->due_ms = lvt_now_ms() + PASS_MS;
    pass->late = false;
    while (code == LEVERET_OK &&
           (busy(pass) || (wants_more(pass) && !lvt_letters_over(dlq->letters)))) {
        int pause_ms = wants_more(pass) ? wait_ms(pass) : 0;
        code = lvt_letters_work(dlq->letters,
                                pause_ms > 0 && pause_ms < WAIT_MS ? pause_ms : WAIT_MS, err);
        if (code == LEVERET_OK && pass->visitor->step)
            code = pass->visitor->step(pass->ctx, err);
        if (code == LEVERET_OK)
            code = visit_all(pass, err);
        pass->late = lvt_now_ms() >= pass->due_ms;
        show_progress(pass);
    }
    return code == LEVERET_OK ? lvt_letters_end(dlq->letters, err) : code;
}

/* A pass that would be too long ends, and the next one begins with the letters that it has left:
 * the broker puts them back where they were. */
static enum leveret_code walk_queue(struct pass *pass, struct leveret_error *err) {
    struct lvt_dlq *dlq = pass->dlq;
    dlq->removed = 0;
    for (;;) {
        dlq->seen = dlq->removed;
        enum leveret_code code = run_pass(pass, pass->depth - dlq->removed, err);
        clear_progress(dlq);
        bool unfinished = pass->late && dlq->seen < pass->depth;
        if (code != LEVERET_OK || !unfinished || atomic_load(&lvt_program_stop))
            return code;
        if (!pass->visitor->again) {
            fprintf(stderr,
                    "leveret: %s: stopped after %d minutes, which is as long as letters can be "
                    "held; %llu of %llu have been looked at\n",
                    dlq->queue, PASS_MS / 60000, (unsigned long long)dlq->seen,
                    (unsigned long long)pass->depth);
            return LEVERET_OK;
        }
        pass->visitor->again(pass->ctx);
    }
}

enum leveret_code lvt_dlq_walk(struct lvt_dlq *dlq, const struct lvt_dlq_visitor *visitor,
                               void *ctx, struct leveret_error *err) {
    struct pass pass = {.dlq = dlq, .visitor = visitor, .ctx = ctx};
    for (size_t i = 0; i < dlq->queue_count && wants_more(&pass); i++) {
        struct lvt_letters_queue queue;
        dlq->queue = dlq->queues[i];
        enum leveret_code code = lvt_letters_look(dlq->letters, dlq->queue, &queue, err);
        if (code != LEVERET_OK)
            return code;
        if (queue.depth == 0)
            continue;
        if (queue.consumers > 0)
            fprintf(stderr, "leveret: %s has %llu consumers, which take letters at the same time\n",
                    dlq->queue, (unsigned long long)queue.consumers);
        pass.depth = queue.depth;
        pass.drops_after = queue.drops_after;
        code = walk_queue(&pass, err);
        if (code != LEVERET_OK)
            return code;
    }
    return LEVERET_OK;
}
