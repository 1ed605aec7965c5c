#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/line_input.h"
#include "cli/program.h"
#include "cli/publish_options.h"
#include "event/envelope.h"
#include "publish/client.h"

#define PROGRESS_MS 200
/* Takes the progress off a terminal's line. */
#define WIPE "\r\x1b[K"

/* What became of the events so far. The client's thread counts, the command reads. */
struct tally {
    atomic_size_t confirmed, failed;
    atomic_int status; /* of the first that failed */
    bool progress;     /* is shown */
};

/* What one event is told by its answer. */
struct line {
    struct tally *tally;
    size_t number; /* 0: it came from the command line */
};

/* An event that makes no sense is the caller's doing, wherever that was noticed. */
static int exit_of(enum leveret_code code) {
    return code == LEVERET_MALFORMED || code == LEVERET_TOO_BIG ? LVT_EXIT_USAGE
                                                                : lvt_program_exit(code);
}

static void fail(struct tally *tally, size_t number, enum leveret_code code, const char *text) {
    int none = 0;
    atomic_fetch_add(&tally->failed, 1);
    atomic_compare_exchange_strong(&tally->status, &none, exit_of(code));
    const char *wipe = tally->progress ? WIPE : "";
    if (number > 0)
        fprintf(stderr, "%sleveret: line %zu: %s\n", wipe, number, text);
    else
        fprintf(stderr, "leveret: %s\n", text);
}

static void answered(void *ctx, enum leveret_code code, struct lvt_bytes id, const char *text) {
    struct line *line = ctx;
    if (code != LEVERET_OK) {
        fail(line->tally, line->number, code, text);
    } else {
        atomic_fetch_add(&line->tally->confirmed, 1);
        if (line->number == 0)
            printf("%.*s\n", (int)id.len, id.data);
    }
    free(line);
}

static enum leveret_code publish(struct lvt_client *client, const struct lvt_outgoing *outgoing,
                                 const struct lvt_publish_options *options, struct tally *tally,
                                 size_t number, struct leveret_error *err) {
    struct line *line = malloc(sizeof *line);
    if (!line)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    *line = (struct line){tally, number};
    enum leveret_code code =
        lvt_client_publish(client, outgoing, options->wait_ms, answered, line, err);
    if (code != LEVERET_OK)
        free(line);
    return code;
}

/* ---- standard input ---- */

/* The event of a line, in any known envelope, goes out as it stands. Its priority must be the
 * message's, too, for the broker to see it. */
static enum leveret_code read_line(struct lvt_delivery *delivery, struct lvt_outgoing *outgoing,
                                   struct leveret_error *err) {
    struct lvt_envelope envelope;
    enum leveret_code code = lvt_envelope_read(delivery, LVT_ENVELOPE_AUTO, &envelope, err);
    if (code != LEVERET_OK)
        return code;
    outgoing->event = envelope.type;
    outgoing->payload = delivery->body;
    outgoing->whole = true;
    if (envelope.id.len > 0)
        outgoing->id = envelope.id;
    if (outgoing->priority == LVT_NO_PRIORITY && envelope.priority >= 0)
        outgoing->priority = envelope.priority < UINT8_MAX ? (int)envelope.priority : UINT8_MAX;
    return LEVERET_OK;
}

static void publish_line(struct lvt_client *client, const struct lvt_publish_options *options,
                         struct tally *tally, struct lvt_bytes text, size_t number) {
    struct lvt_outgoing outgoing = options->outgoing;
    struct leveret_error err;
    struct lvt_delivery *delivery = lvt_delivery_new(256);
    enum leveret_code code = LEVERET_NO_MEMORY;
    if (delivery) {
        delivery->body = text;
        code = read_line(delivery, &outgoing, &err);
    } else {
        leveret_fail(&err, code, "out of memory");
    }
    if (code == LEVERET_OK)
        code = publish(client, &outgoing, options, tally, number, &err);
    if (code != LEVERET_OK)
        fail(tally, number, code, err.text);
    lvt_delivery_free(delivery);
}

/* What is needed while lines are read. */
struct reading {
    struct lvt_client *client;
    struct tally *tally;
    uint64_t progress_at_ms;
};

static void show_progress(struct reading *reading) {
    struct lvt_client_status status;
    const struct tally *tally = reading->tally;
    if (!tally->progress || lvt_now_ms() < reading->progress_at_ms)
        return;
    reading->progress_at_ms = lvt_now_ms() + PROGRESS_MS;
    lvt_client_status(reading->client, &status);
    fprintf(stderr, WIPE "%zu confirmed, %zu failed, %zu on their way%s",
            atomic_load(&tally->confirmed), atomic_load(&tally->failed), status.pending,
            status.blocked ? "; RabbitMQ takes no messages now" : "");
}

static bool go_on(void *ctx) {
    show_progress(ctx);
    return !atomic_load(&lvt_program_stop);
}

static void tell_end(struct tally *tally, const struct lvt_line_input *input) {
    if (input->error) {
        int none = 0;
        atomic_compare_exchange_strong(&tally->status, &none, LVT_EXIT_NO_INPUT);
        fprintf(stderr, "leveret: standard input cannot be read%s: %s\n",
                input->number > 0 ? " any further" : "", strerror(input->error));
    }
    fprintf(stderr, "%zu confirmed, %zu failed", atomic_load(&tally->confirmed),
            atomic_load(&tally->failed));
    if (atomic_load(&lvt_program_stop))
        fprintf(stderr, "; interrupted: what comes after line %zu was not read", input->number);
    fputc('\n', stderr);
}

/* One that is longer than the body may be is not kept, but a line's end may be. */
static enum leveret_code publish_lines(struct lvt_client *client,
                                       const struct lvt_publish_options *options,
                                       uint64_t max_body_bytes, struct tally *tally,
                                       struct leveret_error *err) {
    struct reading reading = {.client = client, .tally = tally};
    struct lvt_line_input *input = malloc(sizeof *input);
    if (!input)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    input->fd = STDIN_FILENO;
    input->go_on = go_on;
    input->ctx = &reading;
    lvt_line_input_init(input, max_body_bytes + 1);
    tally->progress = isatty(STDERR_FILENO);
    lvt_program_catch_signals();
    while (go_on(&reading) && lvt_line_input_next(input)) {
        struct lvt_bytes line = lvt_bytes(input->line.data, input->line.len);
        if (input->line.failed)
            fail(tally, input->number, LEVERET_TOO_BIG, "it is longer than max_body_bytes");
        else if (line.len > 0)
            publish_line(client, options, tally, line, input->number);
    }
    while (!lvt_client_drain(client, tally->progress ? PROGRESS_MS : LVT_CLIENT_FOREVER))
        show_progress(&reading);
    if (tally->progress)
        fputs(WIPE, stderr);
    tell_end(tally, input);
    lvt_line_input_done(input);
    free(input);
    return LEVERET_OK;
}

/* ---- the command ---- */

static int run(struct lvt_program *program, const struct lvt_publish_options *options) {
    struct tally tally = {0};
    struct lvt_client *client;
    struct leveret_error err;
    if (lvt_client_new(&program->config, &program->log, &client, &err) != LEVERET_OK)
        return lvt_program_fail(&err);
    enum leveret_code code =
        options->lines
            ? publish_lines(client, options, program->config.max_body_bytes, &tally, &err)
            : publish(client, &options->outgoing, options, &tally, 0, &err);
    if (code != LEVERET_OK)
        fail(&tally, 0, err.code, err.text);
    (void)lvt_client_drain(client, LVT_CLIENT_FOREVER);
    lvt_client_free(client);
    if (atomic_load(&lvt_program_stop))
        return LVT_EXIT_INTERRUPTED;
    return atomic_load(&tally.status);
}

int lvt_command_publish(int argc, char **argv) {
    struct lvt_program program = {.log_fd = STDERR_FILENO};
    struct lvt_publish_options options;
    struct leveret_error err;
    int status = lvt_publish_options_read(argc, argv, &options);
    if (status < 0) {
        signal(SIGPIPE, SIG_IGN);
        enum leveret_code code = lvt_program_configure(&program, options.config_path, &err);
        if (program.log.level < LVT_ERROR)
            program.log.level = LVT_ERROR; /* what became of the events is told by the command */
        status = code == LEVERET_OK ? run(&program, &options) : lvt_program_fail(&err);
        lvt_program_done(&program);
    }
    lvt_publish_options_free(&options);
    return status;
}
