#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/program.h"

static const char help[] =
    "usage: leveret run [-c FILE] [--embedded]\n"
    "\n"
    "Runs the worker until SIGTERM or SIGINT: it then takes no more events, finishes those in\n"
    "hand within shutdown_timeout_ms, and ends. A second signal ends it at once. Handlers are\n"
    "reloaded when their files change; SIGHUP compares them at once.\n"
    "\n"
    "  -c, --config FILE  the configuration (default: leveret.lua, where there is one)\n"
    "  --embedded         broker, ledger and cache inside the process: reads one event a line "
    "from\n"
    "                     standard input, such as {\"event\": \"ticket.created\", \"payload\": "
    "{}},\n"
    "                     prints what became of each, and ends when all are settled\n"
    "  --help-config      describe every key of the configuration and of a handler's file\n";

enum { FLAG_EMBEDDED, FLAG_HELP_CONFIG, FLAG_COUNT };

static const char *const flags[] = {"--embedded", "--help-config", NULL};

static struct leveret_worker *running;

static void stop(int signal_number) {
    int saved_errno = errno;
    (void)signal_number;
    /* A second one, of either kind, finds the default action, which ends the process. */
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    leveret_worker_stop(running);
    errno = saved_errno;
}

static void reload(int signal_number) {
    (void)signal_number;
    leveret_worker_reload(running);
}

static void catch_signals(void) {
    const int caught[] = {SIGTERM, SIGINT};
    struct sigaction action = {.sa_handler = stop};
    struct sigaction hangup = {.sa_handler = reload, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigemptyset(&hangup.sa_mask);
    sigaction(SIGHUP, &hangup, NULL);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
        sigaction(caught[i], &action, NULL);
}

/* A thousand handlers that wait for HTTP hold a thousand sockets, and the usual limit is 1,024. */
static void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int help_config(void) {
    struct lvt_buffer out;
    lvt_buffer_init(&out, 1 << 20);
    lvt_buffer_text(&out, "Keys of leveret.lua:\n\n");
    lvt_keys_describe(lvt_config_keys, lvt_config_key_count, &out);
    lvt_buffer_text(&out, "\nOptions of a handler's file:\n\n");
    lvt_keys_describe(lvt_handler_keys, lvt_handler_key_count, &out);
    if (!out.failed)
        fputs(out.data, stdout);
    bool failed = out.failed;
    lvt_buffer_free(&out);
    return failed ? LVT_EXIT_SOFTWARE : LVT_EXIT_OK;
}

static void log_handlers(const struct lvt_program *program) {
    const struct lvt_routes *routes = &program->worker->routes;
    for (size_t i = 0; i < routes->handler_count; i++) {
        const struct lvt_handler *handler = routes->handlers[i];
        LVT_LOG(&program->log, LVT_INFO, "handler loaded", LVT_STRING("handler", handler->name),
                LVT_STRING("queue", handler->queue->name), LVT_STRING("version", handler->version),
                LVT_STRING("file", handler->path));
    }
}

static enum leveret_code run_worker(struct lvt_program *program, struct leveret_error *err) {
    LVT_LOG(&program->log, LVT_INFO, "leveret starts", LVT_STRING("version", LEVERET_VERSION),
            LVT_STRING("name", program->config.name), LVT_INTEGER("pid", getpid()));
    log_handlers(program);
    running = program->worker;
    catch_signals();
    enum leveret_code code = leveret_worker_run(program->worker, err);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGHUP, SIG_IGN); /* there is nothing to reload any more */
    if (code == LEVERET_OK)
        lvt_log(&program->log, LVT_INFO, "shutdown: done", NULL, 0);
    return code;
}

int lvt_command_run(int argc, char **argv) {
    struct lvt_program program = {.log_fd = STDERR_FILENO};
    struct leveret_error err;
    bool set[FLAG_COUNT] = {false};
    const char *config_path = NULL;
    int status = lvt_program_options(argc, argv, help, flags, set, &config_path);
    if (status >= 0)
        return status;
    if (set[FLAG_HELP_CONFIG])
        return help_config();
    if (set[FLAG_EMBEDDED])
        program.log_fd = STDOUT_FILENO; /* what became of each event is the command's output */
    raise_file_limit();
    enum leveret_code code = lvt_program_configure(&program, config_path, &err);
    if (code == LEVERET_OK)
        code = lvt_program_make_worker(&program, &err);
    if (code == LEVERET_OK)
        code = set[FLAG_EMBEDDED] ? lvt_worker_run_embedded(program.worker, STDIN_FILENO, &err)
                                  : run_worker(&program, &err);
    status = code == LEVERET_OK ? LVT_EXIT_OK : lvt_program_fail(&err);
    lvt_program_done(&program);
    return status;
}
