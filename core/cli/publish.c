#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/program.h"
#include "cli/publish_options.h"
#include "event/envelope.h"
#include "publish/client.h"

/* Between two lines of progress on a terminal. */
#define PROGRESS_EVERY 1000

/* What became of the events so far. The client's thread counts, the command reads. */
struct tally {
    atomic_size_t confirmed, failed;
    atomic_int status; /* of the first that failed */
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
    if (number > 0)
        fprintf(stderr, "leveret: line %zu: %s\n", number, text);
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

/* The event of a line, in any known envelope, goes out as it stands. */
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

static void show_progress(struct lvt_client *client, const struct tally *tally) {
    struct lvt_client_status status;
    lvt_client_status(client, &status);
    fprintf(stderr, "\r%zu confirmed, %zu failed, %zu on their way%s  ",
            atomic_load(&tally->confirmed), atomic_load(&tally->failed), status.pending,
            status.blocked ? "; RabbitMQ takes no messages now" : "");
}

static void publish_lines(struct lvt_client *client, const struct lvt_publish_options *options,
                          struct tally *tally) {
    bool progress = isatty(STDERR_FILENO);
    char *text = NULL;
    size_t size = 0, number = 0;
    ssize_t len;
    while ((len = getline(&text, &size, stdin)) >= 0) {
        number++;
        while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
            len--;
        if (len > 0)
            publish_line(client, options, tally, lvt_bytes(text, (size_t)len), number);
        if (progress && number % PROGRESS_EVERY == 0)
            show_progress(client, tally);
    }
    free(text);
    while (!lvt_client_drain(client, progress ? 500 : LVT_CLIENT_FOREVER))
        show_progress(client, tally);
    if (progress)
        fputc('\r', stderr);
    fprintf(stderr, "%zu confirmed, %zu failed\n", atomic_load(&tally->confirmed),
            atomic_load(&tally->failed));
}

/* ---- the command ---- */

static int run(struct lvt_program *program, const struct lvt_publish_options *options) {
    struct tally tally = {0};
    struct lvt_client *client;
    struct leveret_error err;
    if (lvt_client_new(&program->config, &program->log, &client, &err) != LEVERET_OK)
        return lvt_program_fail(&err);
    if (options->lines) {
        publish_lines(client, options, &tally);
    } else if (publish(client, &options->outgoing, options, &tally, 0, &err) == LEVERET_OK) {
        (void)lvt_client_drain(client, LVT_CLIENT_FOREVER);
    } else {
        fail(&tally, 0, err.code, err.text);
    }
    lvt_client_free(client);
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
