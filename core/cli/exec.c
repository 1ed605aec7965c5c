#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/exec_print.h"
#include "cli/program.h"
#include "event/json.h"
#include "lane/exec.h"

static const char help[] =
    "usage: leveret exec [-c FILE] [OPTIONS] HANDLER EVENT.json\n"
    "\n"
    "Runs one handler on one event, without a broker, and shows all that it asks for, in order:\n"
    "statements, commands, requests, sleeps, log lines; then what would become of the event.\n"
    "HANDLER is a handler's file, or the name of one in the configuration's folders. EVENT.json\n"
    "holds an event in any envelope that the handler's queue takes; - is standard input.\n"
    "\n"
    "  -c, --config FILE  the configuration (default: leveret.lua, where there is one)\n"
    "  --event TYPE       EVENT.json is the payload of an event of this type\n"
    "  --attempt N        this is the event's Nth attempt (default: 1)\n"
    "  --live             ask PostgreSQL, Redis and HTTP servers, and commit\n"
    "  --json             one JSON document a line, for programs\n"
    "\n"
    "Without --live nothing is performed, and stand-ins answer: a statement finds no rows and\n"
    "affects one, Redis holds nothing, no key fits a pattern, an HTTP request gets an empty 200,\n"
    "and a sleep is over at once. With --live what the handler does is done, and its transaction\n"
    "commits as in a run; but the event is neither claimed nor recorded, so that it may be run\n"
    "again, and no message is published: no retry, no dead letter.\n"
    "\n"
    "Ends with 0 when the event is done or dropped, 1 when its handler failed or rejected it, 75\n"
    "when it snoozed, 64 for a wrong command line, 65 when EVENT.json is no event for this\n"
    "handler, 66 when it cannot be read, 69 when a service is away, 78 when configuration or\n"
    "handler cannot be loaded.\n";

#define ATTEMPT_MAX 1000000

struct arguments {
    const char *config_path, *handler, *event_path, *type;
    uint32_t attempt;
    bool live, json;
};

/* ---- the command line ---- */

static bool read_attempt(const char *text, uint32_t *ret_attempt) {
    char *end;
    errno = 0;
    unsigned long attempt = strtoul(text, &end, 10);
    if (errno != 0 || *end || end == text || text[0] == '-' || attempt < 1 || attempt > ATTEMPT_MAX)
        return false;
    *ret_attempt = (uint32_t)attempt;
    return true;
}

/* The value of an option that has one: behind it, or behind its "=". NULL when argv[*at] is not
 * this option; *ret_missing when its value is not there. */
static const char *value_of(const char *option, int argc, char **argv, int *at, bool *ret_missing) {
    size_t len = strlen(option);
    if (strncmp(argv[*at], option, len) != 0)
        return NULL;
    if (argv[*at][len] == '=' && option[1] == '-')
        return argv[*at] + len + 1;
    if (argv[*at][len] != '\0')
        return NULL;
    *ret_missing = *at + 1 == argc;
    return *ret_missing ? NULL : argv[++*at];
}

/* -1 to go on with the next, or the exit code. */
static int read_option(int argc, char **argv, int *at, struct arguments *arguments) {
    const struct {
        const char *name;
        const char **text;
    } options[] = {{"-c", &arguments->config_path},
                   {"--config", &arguments->config_path},
                   {"--event", &arguments->type},
                   {"--attempt", NULL}};
    const char *option = argv[*at];
    if (strcmp(option, "--live") == 0 || strcmp(option, "--json") == 0) {
        *(option[2] == 'l' ? &arguments->live : &arguments->json) = true;
        return -1;
    }
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        bool missing = false;
        const char *value = value_of(options[i].name, argc, argv, at, &missing);
        if (missing)
            return lvt_program_usage(argv[0], "%s wants a value", option);
        if (!value)
            continue;
        if (options[i].text)
            *options[i].text = value;
        else if (!read_attempt(value, &arguments->attempt))
            return lvt_program_usage(argv[0], "--attempt wants a number from 1 to %d, not %s",
                                     ATTEMPT_MAX, value);
        return -1;
    }
    return lvt_program_usage(argv[0], "exec does not know %s", option);
}

/* -1 to go on, or the exit code. */
static int read_arguments(int argc, char **argv, struct arguments *arguments) {
    for (int i = 1; i < argc; i++) {
        int status = -1;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(help, stdout);
            return LVT_EXIT_OK;
        }
        if (argv[i][0] == '-' && argv[i][1] != '\0')
            status = read_option(argc, argv, &i, arguments);
        else if (!arguments->handler)
            arguments->handler = argv[i];
        else if (!arguments->event_path)
            arguments->event_path = argv[i];
        else
            status = lvt_program_usage(argv[0], "exec takes one handler and one event, not %s too",
                                       argv[i]);
        if (status >= 0)
            return status;
    }
    if (!arguments->event_path)
        return lvt_program_usage(argv[0], "exec wants a handler and an event's file");
    return -1;
}

/* ---- the handler ---- */

/* NULL when there is no such file, or no memory for its path. */
static char *file_in(const char *folder, const char *name, const char *suffix) {
    char *path;
    if (asprintf(&path, "%s/%s%s", folder, name, suffix) < 0)
        return NULL;
    if (access(path, F_OK) == 0)
        return path;
    free(path);
    return NULL;
}

/* Whether a file that the configuration names by itself is this handler's. */
static bool is_named(const char *path, const char *name) {
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    size_t len = strlen(name);
    return strncmp(base, name, len) == 0 &&
           (strcmp(base + len, ".lua") == 0 || strcmp(base + len, ".so") == 0);
}

static char *find_handler(const struct lvt_config *config, const char *name) {
    struct stat info;
    char *path = NULL;
    if (stat(name, &info) == 0 && S_ISREG(info.st_mode))
        return strdup(name);
    for (size_t i = 0; i < config->handlers.count && !path; i++) {
        const char *item = config->handlers.items[i];
        if (is_named(item, name))
            path = strdup(item);
        if (!path)
            path = file_in(item, name, ".lua");
        if (!path)
            path = file_in(item, name, ".so");
    }
    return path;
}

/* Makes it the only one. */
static enum leveret_code load_handler(struct lvt_program *program, const char *name,
                                      struct leveret_error *err) {
    char *path = find_handler(&program->config, name);
    if (!path)
        return leveret_fail(err, LEVERET_CONFIG,
                            "there is no handler %s: it is neither a file, nor the name of one in "
                            "the configuration's handlers",
                            name);
    struct lvt_strings *handlers = &program->config.handlers;
    char **items = malloc(sizeof *items);
    if (!items) {
        free(path);
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    }
    lvt_strings_free(handlers);
    items[0] = path;
    *handlers = (struct lvt_strings){items, 1};
    return lvt_program_make_worker(program, err);
}

/* ---- the event ---- */

/* LVT_EXIT_OK, or the exit code with its error. */
static int read_event(const char *path, struct lvt_buffer *body, struct leveret_error *err) {
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "rbe");
    char chunk[65536];
    size_t count;
    if (!file) {
        leveret_fail(err, LEVERET_INVALID, "cannot read the event: %s: %s", path, strerror(errno));
        return LVT_EXIT_NO_INPUT;
    }
    while (!body->failed && (count = fread(chunk, 1, sizeof chunk, file)) > 0)
        lvt_buffer_append(body, chunk, count);
    bool failed = ferror(file) != 0;
    int why = errno;
    if (!is_stdin)
        fclose(file);
    if (failed) {
        leveret_fail(err, LEVERET_INVALID, "cannot read the event: %s: %s", path, strerror(why));
        return LVT_EXIT_NO_INPUT;
    }
    if (body->failed) {
        leveret_fail(err, LEVERET_TOO_BIG, "%s: the event is over %zu bytes", path, body->max);
        return LVT_EXIT_DATA;
    }
    return LVT_EXIT_OK;
}

/* Puts the payload into an envelope. */
static int wrap_payload(const struct arguments *arguments, struct lvt_buffer *body,
                        struct leveret_error *err) {
    struct lvt_buffer wrapped;
    struct leveret_error why;
    if (lvt_json_validate(lvt_bytes(body->data, body->len), LVT_NESTING_MAX - 1, &why) !=
        LEVERET_OK) {
        leveret_fail(err, LEVERET_MALFORMED, "%s: %s", arguments->event_path, why.text);
        return LVT_EXIT_DATA;
    }
    lvt_buffer_init(&wrapped, body->max + strlen(arguments->type) * 6 + 64);
    lvt_buffer_text(&wrapped, "{\"event\":");
    lvt_json_write_string(&wrapped, lvt_bytes_of(arguments->type));
    lvt_buffer_text(&wrapped, ",\"payload\":");
    lvt_buffer_append(&wrapped, body->data, body->len);
    lvt_buffer_char(&wrapped, '}');
    lvt_buffer_free(body);
    *body = wrapped;
    if (!body->failed)
        return LVT_EXIT_OK;
    leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the event");
    return LVT_EXIT_SOFTWARE;
}

/* ---- the command ---- */

static int exit_code_of(const struct lvt_exec_result *result) {
    switch (result->verdict) {
    case LVT_VERDICT_DONE:
    case LVT_VERDICT_DROP:
        return LVT_EXIT_OK;
    case LVT_VERDICT_SNOOZE:
        return LVT_EXIT_LATER;
    case LVT_VERDICT_OUTAGE:
        return LVT_EXIT_UNAVAILABLE;
    default:
        return LVT_EXIT_FAILED;
    }
}

static int run(struct lvt_program *program, const struct arguments *arguments,
               struct lvt_bytes body) {
    struct lvt_exec_printer printer = {.json = arguments->json,
                                       .colours = !arguments->json && isatty(STDOUT_FILENO),
                                       .live = arguments->live};
    const struct lvt_exec_options options = {.config = &program->config,
                                             .routes = &program->worker->routes,
                                             .log = &program->log,
                                             .watcher = lvt_exec_printer_watcher(&printer),
                                             .body = body,
                                             .attempt = arguments->attempt,
                                             .live = arguments->live};
    struct lvt_exec_result result;
    struct leveret_error err;
    if (arguments->type)
        program->worker->routes.queues[0]->envelope = LVT_ENVELOPE_EVENT;
    if (lvt_exec_run(&options, &result, &err) != LEVERET_OK)
        return lvt_program_fail(&err);
    if (!result.ran) {
        leveret_fail(&err, LEVERET_MALFORMED, "%s: %s", arguments->event_path, result.reason);
        (void)lvt_program_fail(&err);
        return LVT_EXIT_DATA;
    }
    lvt_exec_print_result(&printer, &result);
    return exit_code_of(&result);
}

int lvt_command_exec(int argc, char **argv) {
    struct lvt_program program = {.log_fd = STDERR_FILENO};
    struct arguments arguments = {.attempt = 1};
    struct leveret_error err;
    struct lvt_buffer body;
    int status = read_arguments(argc, argv, &arguments);
    if (status >= 0)
        return status;
    signal(SIGPIPE, SIG_IGN); /* hiredis and TLS write without MSG_NOSIGNAL */
    enum leveret_code code = lvt_program_configure(&program, arguments.config_path, &err);
    if (code == LEVERET_OK)
        code = load_handler(&program, arguments.handler, &err);
    if (code != LEVERET_OK) {
        status = lvt_program_fail(&err);
        lvt_program_done(&program);
        return status;
    }
    /* A body that is over the limit by a little is the engine's to refuse. */
    lvt_buffer_init(&body, 2 * (size_t)program.config.max_body_bytes);
    status = read_event(arguments.event_path, &body, &err);
    if (status == LVT_EXIT_OK && arguments.type)
        status = wrap_payload(&arguments, &body, &err);
    if (status == LVT_EXIT_OK)
        status = run(&program, &arguments, lvt_bytes(body.data, body.len));
    else
        (void)lvt_program_fail(&err);
    lvt_buffer_free(&body);
    lvt_program_done(&program);
    return status;
}
