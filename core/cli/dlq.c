#include "cli/dlq.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/ladder.h"

static const char help[] =
    "usage: leveret dlq list    [-c FILE] [FILTER...] [--json]\n"
    "       leveret dlq show    [-c FILE] [FILTER...] [--limit N] [--json | --raw]\n"
    "       leveret dlq replay  [-c FILE] [FILTER...] [--limit N] [--rate N] [--dry-run] [--json]\n"
    "       leveret dlq discard [-c FILE] FILTER... | --all [--limit N] [--yes] [--dry-run] "
    "[--json]\n"
    "\n"
    "Works on the dead letters: those in the dead-letter queues of the handlers, and what could\n"
    "not be delivered. Other consumers of these queues should rest meanwhile.\n"
    "\n"
    "  list     groups them by queue, event and cause; a cause has a fingerprint\n"
    "  show     shows some of them (10, unless --limit says otherwise); --raw writes the first\n"
    "           one's body and nothing else\n"
    "  replay   sends them back to the queue that they failed in, where their attempts begin "
    "anew;\n"
    "           a letter is removed when the broker has confirmed its copy\n"
    "  discard  deletes them, after asking\n"
    "\n"
    "Filters; all that are given must fit:\n"
    "  --queue Q          failed in this queue (may be given several times)\n"
    "  --event PATTERN    of this type, such as ticket.created or ticket.*\n"
    "  --fingerprint F    with this cause\n"
    "  --id ID            with this id\n"
    "  --older AGE        failed longer ago than 30s, 10m, 2h, 7d\n"
    "  --newer AGE        failed after that\n"
    "\n"
    "  --rate N           letters per second\n"
    "  --dry-run          only says what would be done\n"
    "\n"
    "Ctrl-C ends it with 130, and loses nothing.\n";

static const struct {
    const char *name;
    enum leveret_code (*run)(struct lvt_dlq *dlq, struct leveret_error *err);
} verbs[LVT_DLQ_VERBS] = {
    [LVT_DLQ_LIST] = {"list", lvt_dlq_list},
    [LVT_DLQ_SHOW] = {"show", lvt_dlq_show},
    [LVT_DLQ_REPLAY] = {"replay", lvt_dlq_replay},
    [LVT_DLQ_DISCARD] = {"discard", lvt_dlq_discard},
};

/* ---- the queues ---- */

static void add_queue(struct lvt_dlq *dlq, const char *name) {
    for (size_t i = 0; i < dlq->queue_count; i++)
        if (strcmp(dlq->queues[i], name) == 0)
            return;
    if (name[0] != '\0')
        dlq->queues[dlq->queue_count++] = name;
}

static enum leveret_code find_queues(struct lvt_dlq *dlq, struct leveret_error *err) {
    const struct lvt_routes *routes = &dlq->program.worker->routes;
    dlq->queues = calloc(routes->queue_count + 2, sizeof *dlq->queues);
    if (!dlq->queues)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < routes->queue_count; i++)
        add_queue(dlq, routes->queues[i]->dead_letter);
    add_queue(dlq, dlq->program.config.dead_letter.queue);
    add_queue(dlq, LVT_LADDER_UNDELIVERED);
    return LEVERET_OK;
}

/* ---- the command ---- */

struct job {
    struct lvt_dlq *dlq;
    enum leveret_code code;
    struct leveret_error *err;
};

static void work(void *ctx) {
    struct job *job = ctx;
    job->code = lvt_dlq_connect(job->dlq, job->err);
    if (job->code == LEVERET_OK)
        job->code = verbs[job->dlq->options.verb].run(job->dlq, job->err);
    lvt_dlq_disconnect(job->dlq);
}

static enum leveret_code run(struct lvt_dlq *dlq, struct leveret_error *err) {
    struct job job = {.dlq = dlq, .err = err};
    enum leveret_code code = lvt_program_configure(&dlq->program, dlq->options.config, err);
    if (code == LEVERET_OK)
        code = lvt_program_make_worker(&dlq->program, err);
    if (code == LEVERET_OK)
        code = find_queues(dlq, err);
    if (code != LEVERET_OK)
        return code;
    lvt_program_catch_signals();
    dlq->on_terminal = isatty(STDERR_FILENO);
    code = lvt_letters_run(work, &job, err);
    return code == LEVERET_OK ? job.code : code;
}

int lvt_command_dlq(int argc, char **argv) {
    struct leveret_error err;
    struct lvt_dlq dlq = {
        .options = {.limit = UINT64_MAX, .filter = {.failed_before_s = -1, .failed_after_s = -1}},
        .program = {.log_fd = STDERR_FILENO}};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(help, stdout);
            return LVT_EXIT_OK;
        }
    }
    if (argc < 2)
        return lvt_program_usage("dlq", "dlq wants one of list, show, replay, discard");
    while (dlq.options.verb < LVT_DLQ_VERBS && strcmp(verbs[dlq.options.verb].name, argv[1]) != 0)
        dlq.options.verb++;
    if (dlq.options.verb == LVT_DLQ_VERBS)
        return lvt_program_usage(
            "dlq", "dlq does not know %s; it knows list, show, replay, discard", argv[1]);
    int status = lvt_dlq_options_read(argc - 1, argv + 1, &dlq.options);
    if (status >= 0)
        return status;
    enum leveret_code code = run(&dlq, &err);
    status = code == LEVERET_OK ? LVT_EXIT_OK : lvt_program_fail(&err);
    if (atomic_load(&lvt_program_stop))
        status = LVT_EXIT_INTERRUPTED;
    free(dlq.queues);
    lvt_program_done(&dlq.program);
    return status;
}
