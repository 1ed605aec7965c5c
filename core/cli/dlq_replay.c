#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/container.h"
#include "cli/dlq.h"

#define OUTPUT_MAX ((size_t)256 << 20)
/* Queues that letters go back to, and reasons why some do not: kept for so many. */
#define TARGETS_MAX 256
#define REASONS_MAX 64
#define REASON_SIZE 400
#define ASK_AGAIN_MS 100

/* A letter on its way. Lives in its delivery's arena. */
struct sending {
    struct lvt_publish publish;
    struct lvt_delivery *delivery;
};

struct target {
    char name[256];
    bool exists;
};

struct stay_reason {
    char text[REASON_SIZE];
    uint64_t count;
};

struct replaying {
    struct lvt_dlq *dlq;
    uint64_t sent, replayed;
    double next_at_ms; /* by the rate */
    struct target targets[TARGETS_MAX];
    size_t target_count;
    struct stay_reason reasons[REASONS_MAX];
    size_t reason_count;
    uint64_t stayed;
    size_t in_flight;
    struct lvt_letter_groups groups; /* of a dry run */
};

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* ---- letters that stay ---- */

static void stay(struct replaying *replaying, const char *reason) {
    size_t i = 0;
    char text[sizeof replaying->reasons[0].text];
    snprintf(text, sizeof text, "%s: %s", replaying->dlq->queue, reason);
    replaying->stayed++;
    while (i < replaying->reason_count && strcmp(replaying->reasons[i].text, text) != 0)
        i++;
    if (i == REASONS_MAX)
        return; /* counted with all that stayed */
    if (i == replaying->reason_count)
        memcpy(replaying->reasons[replaying->reason_count++].text, text, sizeof text);
    replaying->reasons[i].count++;
}

/* Those that stay in this queue are met once more. */
static void again(void *ctx) {
    struct replaying *replaying = ctx;
    size_t len = strlen(replaying->dlq->queue), kept = 0;
    for (size_t i = 0; i < replaying->reason_count; i++) {
        struct stay_reason *reason = &replaying->reasons[i];
        if (strncmp(reason->text, replaying->dlq->queue, len) == 0 && reason->text[len] == ':')
            replaying->stayed -= reason->count;
        else
            replaying->reasons[kept++] = *reason;
    }
    replaying->reason_count = kept;
}

/* ---- where they go ---- */

static enum leveret_code find_target(struct replaying *replaying, struct lvt_bytes queue,
                                     struct target **ret, struct leveret_error *err) {
    for (size_t i = 0; i < replaying->target_count; i++) {
        if (lvt_bytes_is(queue, replaying->targets[i].name)) {
            *ret = &replaying->targets[i];
            return LEVERET_OK;
        }
    }
    if (replaying->target_count == TARGETS_MAX)
        replaying->target_count = 0; /* rarely: they are asked for again */
    struct target *target = &replaying->targets[replaying->target_count];
    struct lvt_letters_queue found;
    memcpy(target->name, queue.data, queue.len);
    target->name[queue.len] = '\0';
    enum leveret_code code = lvt_letters_look(replaying->dlq->letters, target->name, &found, err);
    if (code == LEVERET_OK) {
        target->exists = found.exists;
        replaying->target_count++;
        *ret = target;
    }
    return code;
}

/* *ret_reason is why it stays, which fits into `text` at most; NULL: it goes. */
static enum leveret_code judge(struct replaying *replaying, const struct lvt_letter *letter,
                               char text[REASON_SIZE], const char **ret_reason,
                               struct leveret_error *err) {
    struct target *target;
    *ret_reason = letter->no_origin;
    if (letter->no_origin)
        return LEVERET_OK;
    *ret_reason = text;
    if (letter->queue.len >= sizeof target->name ||
        memchr(letter->queue.data, 0, letter->queue.len)) {
        snprintf(text, REASON_SIZE, "the name of the queue that it failed in is no queue's");
        return LEVERET_OK;
    }
    if (lvt_bytes_is(letter->queue, replaying->dlq->queue)) {
        snprintf(text, REASON_SIZE, "it failed in this queue");
        return LEVERET_OK;
    }
    enum leveret_code code = find_target(replaying, letter->queue, &target, err);
    if (code != LEVERET_OK)
        return code;
    snprintf(text, REASON_SIZE, "there is no queue \"%s\" any more", target->name);
    if (target->exists)
        *ret_reason = NULL;
    return LEVERET_OK;
}

/* ---- the walk ---- */

/* *ret_sent: the delivery is freed with the answer. */
static enum leveret_code send_back(struct replaying *replaying, const struct lvt_letter *letter,
                                   bool *ret_sent, struct leveret_error *err) {
    struct lvt_delivery *delivery = letter->delivery;
    struct sending *sending = lvt_arena_zalloc(&delivery->arena, sizeof *sending);
    if (!sending)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for a dead letter");
    sending->delivery = delivery;
    sending->publish.destination =
        (struct lvt_destination){.kind = LVT_TO_QUEUE, .name = letter->queue};
    sending->publish.body = delivery->body;
    enum leveret_code code = lvt_letter_revive(letter, &sending->publish.properties, err);
    if (code != LEVERET_OK)
        return code;
    replaying->in_flight++;
    *ret_sent = true;
    return lvt_letters_send(replaying->dlq->letters, &sending->publish, err);
}

static void set_pace(struct replaying *replaying) {
    double now = now_ms();
    if (replaying->next_at_ms < now)
        replaying->next_at_ms = now;
    if (replaying->dlq->options.rate > 0 && !replaying->dlq->options.dry_run)
        replaying->next_at_ms += 1e3 / replaying->dlq->options.rate;
}

static enum leveret_code replay(void *ctx, struct lvt_letter *letter, struct leveret_error *err) {
    struct replaying *replaying = ctx;
    char text[REASON_SIZE];
    const char *reason;
    bool sent = false;
    enum leveret_code code = judge(replaying, letter, text, &reason, err);
    if (code == LEVERET_OK && reason) {
        stay(replaying, reason);
    } else if (code == LEVERET_OK) {
        replaying->sent++;
        set_pace(replaying);
        code = replaying->dlq->options.dry_run
                   ? lvt_groups_add(&replaying->groups, replaying->dlq->queue, letter, err)
                   : send_back(replaying, letter, &sent, err);
    }
    if (!sent)
        lvt_delivery_free(letter->delivery);
    return code;
}

static enum leveret_code take_answers(void *ctx, struct leveret_error *err) {
    struct replaying *replaying = ctx;
    enum leveret_code code = LEVERET_OK;
    struct lvt_publish *publish;
    while (code == LEVERET_OK && (publish = lvt_letters_answered(replaying->dlq->letters))) {
        struct sending *sending = LVT_CONTAINER_OF(publish, struct sending, publish);
        if (publish->result == LVT_PUBLISH_CONFIRMED) {
            code = lvt_dlq_remove(replaying->dlq, sending->delivery, err);
            replaying->replayed++;
        } else {
            stay(replaying, publish->reason);
            if (publish->result == LVT_PUBLISH_RETURNED)
                replaying->target_count = 0; /* it was there a moment ago: ask again */
        }
        replaying->in_flight--;
        lvt_delivery_free(sending->delivery);
    }
    return code;
}

/* After an error. */
static void forget_in_flight(struct replaying *replaying) {
    struct lvt_publish *publish;
    while ((publish = lvt_letters_answered(replaying->dlq->letters)))
        lvt_delivery_free(LVT_CONTAINER_OF(publish, struct sending, publish)->delivery);
}

static int wait_ms(void *ctx) {
    const struct replaying *replaying = ctx;
    double left_ms = replaying->next_at_ms - now_ms();
    if (!lvt_letters_can_send(replaying->dlq->letters))
        return ASK_AGAIN_MS;
    if (replaying->dlq->options.rate <= 0 || left_ms <= 0)
        return 0;
    return left_ms < ASK_AGAIN_MS ? (int)left_ms + 1 : ASK_AGAIN_MS;
}

static bool busy(void *ctx) {
    const struct replaying *replaying = ctx;
    return replaying->in_flight > 0;
}

static bool enough(void *ctx) {
    const struct replaying *replaying = ctx;
    return replaying->sent >= replaying->dlq->options.limit;
}

/* ---- the result ---- */

static void write_json(const struct replaying *replaying, struct lvt_buffer *out) {
    bool dry_run = replaying->dlq->options.dry_run;
    lvt_buffer_printf(out, "{\"replayed\":%llu,\"stayed\":%llu,\"dry_run\":%s,\"interrupted\":%s",
                      (unsigned long long)replaying->replayed,
                      (unsigned long long)replaying->stayed, dry_run ? "true" : "false",
                      atomic_load(&lvt_program_stop) ? "true" : "false");
    lvt_buffer_text(out, ",\"reasons\":[");
    for (size_t i = 0; i < replaying->reason_count; i++) {
        lvt_buffer_text(out, i > 0 ? ",{" : "{");
        lvt_dlq_write_member(out, "reason", lvt_bytes_of(replaying->reasons[i].text));
        lvt_buffer_printf(out, ",\"count\":%llu}", (unsigned long long)replaying->reasons[i].count);
    }
    lvt_buffer_text(out, "]");
    if (dry_run) {
        lvt_buffer_text(out, ",\"would_replay\":");
        lvt_dlq_write_groups_json(out, &replaying->groups);
    }
    lvt_buffer_text(out, "}\n");
}

static void write_text(const struct replaying *replaying, struct lvt_buffer *out) {
    if (replaying->dlq->options.dry_run) {
        lvt_dlq_write_groups(out, &replaying->groups);
        lvt_buffer_printf(out, "a dry run: %llu would be replayed",
                          (unsigned long long)replaying->sent);
    } else {
        lvt_buffer_printf(out, "replayed %llu", (unsigned long long)replaying->replayed);
    }
    lvt_buffer_printf(out, replaying->stayed > 0 ? ", %llu stay\n" : "\n",
                      (unsigned long long)replaying->stayed);
    for (size_t i = 0; i < replaying->reason_count; i++) {
        lvt_buffer_printf(out, "%llu stay in ", (unsigned long long)replaying->reasons[i].count);
        lvt_text_escape(out, lvt_bytes_of(replaying->reasons[i].text), false);
        lvt_buffer_char(out, '\n');
    }
}

enum leveret_code lvt_dlq_replay(struct lvt_dlq *dlq, struct leveret_error *err) {
    static const struct lvt_dlq_visitor visitor = {.letter = replay,
                                                   .wait_ms = wait_ms,
                                                   .step = take_answers,
                                                   .busy = busy,
                                                   .enough = enough,
                                                   .again = again};
    struct replaying *replaying = calloc(1, sizeof *replaying);
    struct lvt_buffer out;
    if (!replaying)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    replaying->dlq = dlq;
    enum leveret_code code = lvt_dlq_walk(dlq, &visitor, replaying, err);
    if (code == LEVERET_OK) {
        lvt_buffer_init(&out, OUTPUT_MAX);
        lvt_groups_sort(&replaying->groups);
        if (dlq->options.json)
            write_json(replaying, &out);
        else
            write_text(replaying, &out);
        code = lvt_dlq_print(&out, err);
    } else if (replaying->sent > 0) {
        forget_in_flight(replaying);
        code =
            leveret_fail(err, code,
                         "%s; %llu were replayed before, and %zu more may have been: they are "
                         "among the dead letters still",
                         err->text, (unsigned long long)replaying->replayed, replaying->in_flight);
    }
    lvt_groups_free(&replaying->groups);
    free(replaying);
    return code;
}
