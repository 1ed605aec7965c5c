/* What the four verbs of `leveret dlq` share. */
#ifndef LEVERET_CLI_DLQ_H
#define LEVERET_CLI_DLQ_H

#include <stdatomic.h>

#include "broker/letters.h"
#include "cli/program.h"
#include "dlq/filter.h"
#include "dlq/groups.h"

enum lvt_dlq_verb { LVT_DLQ_LIST, LVT_DLQ_SHOW, LVT_DLQ_REPLAY, LVT_DLQ_DISCARD, LVT_DLQ_VERBS };

struct lvt_dlq_options {
    enum lvt_dlq_verb verb;
    const char *config;
    struct lvt_letter_filter filter;
    uint64_t limit; /* UINT64_MAX: none */
    double rate;    /* letters per second; 0: as fast as it goes */
    bool json, raw, dry_run, all, yes;
};

struct lvt_dlq {
    struct lvt_dlq_options options;
    struct lvt_program program;
    const char **queues; /* of dead letters; the names are the configuration's */
    size_t queue_count;
    struct lvt_letters *letters;
    bool on_terminal; /* standard error is one: show progress */
    /* of a walk */
    const char *queue;
    uint64_t removed, seen;
    uint64_t progress_at_ms;
};

/* ---- dlq_options.c ---- */

/* argv[0] is the verb. Returns -1 to go on, or the exit code. */
int lvt_dlq_options_read(int argc, char **argv, struct lvt_dlq_options *ret);

/* ---- dlq_walk.c ---- */

/* What a verb does with the letters that fit its filter. All but `letter` may be NULL. */
struct lvt_dlq_visitor {
    /* The delivery is the visitor's, to free. */
    enum leveret_code (*letter)(void *ctx, struct lvt_letter *letter, struct leveret_error *err);
    /* How long (ms) it wants no letter; 0: it takes the next one now. */
    int (*wait_ms)(void *ctx);
    /* After each look at what the broker says. */
    enum leveret_code (*step)(void *ctx, struct leveret_error *err);
    /* Whether answers are due that the walk must wait for. */
    bool (*busy)(void *ctx);
    /* Whether it wants no more letters. */
    bool (*enough)(void *ctx);
    /* The walk of this queue begins anew: what was not removed comes again. Without it, a walk ends
     * when the broker's time for unacked letters does. */
    void (*again)(void *ctx);
};

/* Shows the visitor the letters that were in each queue when its walk began. */
enum leveret_code lvt_dlq_walk(struct lvt_dlq *dlq, const struct lvt_dlq_visitor *visitor,
                               void *ctx, struct leveret_error *err) LVT_MUST_CHECK;
enum leveret_code lvt_dlq_remove(struct lvt_dlq *dlq, const struct lvt_delivery *letter,
                                 struct leveret_error *err) LVT_MUST_CHECK;
enum leveret_code lvt_dlq_connect(struct lvt_dlq *dlq, struct leveret_error *err) LVT_MUST_CHECK;
void lvt_dlq_disconnect(struct lvt_dlq *dlq);

/* ---- dlq_text.c ---- */

void lvt_dlq_write_groups(struct lvt_buffer *out, const struct lvt_letter_groups *groups);
void lvt_dlq_write_groups_json(struct lvt_buffer *out, const struct lvt_letter_groups *groups);
void lvt_dlq_write_letter(struct lvt_buffer *out, const char *dead_letter,
                          const struct lvt_letter *letter);
void lvt_dlq_write_letter_json(struct lvt_buffer *out, const char *dead_letter,
                               const struct lvt_letter *letter);
/* "key": "text" */
void lvt_dlq_write_member(struct lvt_buffer *out, const char *key, struct lvt_bytes text);
/* Standard output gets it, and the buffer is freed. LEVERET_TOO_BIG when it has failed. */
enum leveret_code lvt_dlq_print(struct lvt_buffer *out, struct leveret_error *err) LVT_MUST_CHECK;

/* ---- the verbs; each in its file ---- */

enum leveret_code lvt_dlq_list(struct lvt_dlq *dlq, struct leveret_error *err) LVT_MUST_CHECK;
enum leveret_code lvt_dlq_show(struct lvt_dlq *dlq, struct leveret_error *err) LVT_MUST_CHECK;
enum leveret_code lvt_dlq_replay(struct lvt_dlq *dlq, struct leveret_error *err) LVT_MUST_CHECK;
enum leveret_code lvt_dlq_discard(struct lvt_dlq *dlq, struct leveret_error *err) LVT_MUST_CHECK;

#endif
