#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/program.h"

static const char help[] =
    "usage: leveret run [-c FILE] [--embedded | --no-supervisor]\n"
    "\n"
    "Runs the worker until SIGTERM or SIGINT: it then takes no more events, finishes those in\n"
    "hand within shutdown_timeout_ms, and ends. A second signal ends it at once. Handlers are\n"
    "reloaded when their files change; SIGHUP compares them at once. The work is done by as many\n"
    "processes as the key lanes says; this one starts them again when they die.\n"
    "\n"
    "  -c, --config FILE  the configuration (default: leveret.lua, where there is one)\n"
    "  --embedded         broker, ledger and cache inside the process: reads one event a line "
    "from\n"
    "                     standard input, such as {\"event\": \"ticket.created\", \"payload\": "
    "{}},\n"
    "                     prints what became of each, and ends when all are settled\n"
    "  --no-supervisor    one lane, in this process: for a debugger. What a crash was about is "
    "not\n"
    "                     found out, and nobody starts the lane again\n"
    "  --help-config      describe every key of the configuration and of a handler's file\n";

enum { FLAG_EMBEDDED, FLAG_HELP_CONFIG, FLAG_ALONE, FLAG_COUNT };

static const char *const flags[] = {"--embedded", "--help-config", "--no-supervisor", NULL};

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

/* Without a supervisor: what a crash was about is not found out, and a debugger has but one process
 * to look at. */
static enum leveret_code run_alone(struct lvt_program *program, struct leveret_error *err) {
    enum leveret_code code = lvt_program_make_worker(program, err);
    return code == LEVERET_OK ? lvt_program_run_worker(program, err) : code;
}

static enum leveret_code run_embedded(struct lvt_program *program, struct leveret_error *err) {
    enum leveret_code code = lvt_program_make_worker(program, err);
    return code == LEVERET_OK ? lvt_worker_run_embedded(program->worker, STDIN_FILENO, err) : code;
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
    if (code == LEVERET_OK && !set[FLAG_EMBEDDED] && !set[FLAG_ALONE])
        return lvt_program_supervise(&program);
    if (code == LEVERET_OK)
        code = set[FLAG_EMBEDDED] ? run_embedded(&program, &err) : run_alone(&program, &err);
    status = code == LEVERET_OK ? LVT_EXIT_OK : lvt_program_fail(&err);
    lvt_program_done(&program);
    return status;
}
