#include "cli/program.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/lua/lua_config.h"

#define DEFAULT_FILE "leveret.lua"

extern char **environ;

enum leveret_code lvt_program_configure(struct lvt_program *program, const char *config_path,
                                        struct leveret_error *err) {
    enum leveret_code code = lvt_config_init(&program->config, err);
    if (code != LEVERET_OK)
        return code;
    if (!config_path && access(DEFAULT_FILE, F_OK) == 0)
        config_path = DEFAULT_FILE;
    if (config_path)
        code = lvt_lua_config_read(config_path, &program->config, err);
    if (code == LEVERET_OK)
        code = lvt_config_environment(&program->config, environ, err);
    if (code == LEVERET_OK)
        code = lvt_config_check(&program->config, err);
    if (code != LEVERET_OK)
        return code;
    lvt_log_writer_init(&program->writer, program->log_fd,
                        (enum lvt_log_format)program->config.log.format, isatty(program->log_fd));
    program->writer.patient = program->log_fd == STDOUT_FILENO;
    program->log = (struct lvt_log){lvt_log_writer_sink, &program->writer,
                                    (enum lvt_level)program->config.log.level};
    return LEVERET_OK;
}

enum leveret_code lvt_program_make_worker(struct lvt_program *program, struct leveret_error *err) {
    return lvt_worker_new(&program->config, &program->log, &program->worker, err);
}

void lvt_program_done(struct lvt_program *program) {
    leveret_worker_free(program->worker);
    if (program->log.sink)
        lvt_log_writer_done(&program->writer);
    lvt_config_free(&program->config);
}

/* ---- signals ---- */

atomic_bool lvt_program_stop;

static void stop(int signal_number) {
    signal(signal_number, SIG_DFL);
    atomic_store(&lvt_program_stop, true);
}

void lvt_program_catch_signals(void) {
    const int caught[] = {SIGTERM, SIGINT};
    struct sigaction action = {.sa_handler = stop};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
        sigaction(caught[i], &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* TLS writes without MSG_NOSIGNAL */
}

/* ---- exit codes ---- */

int lvt_program_exit(enum leveret_code code) {
    switch (code) {
    case LEVERET_CONFIG:
    case LEVERET_MALFORMED:
    case LEVERET_REFUSED:
        return LVT_EXIT_CONFIG;
    case LEVERET_UNAVAILABLE:
        return LVT_EXIT_UNAVAILABLE;
    case LEVERET_INVALID:
        return LVT_EXIT_USAGE;
    default:
        return LVT_EXIT_SOFTWARE;
    }
}

int lvt_program_fail(const struct leveret_error *err) {
    fprintf(stderr, "leveret: %s\n", err->text);
    return lvt_program_exit(err->code);
}

int lvt_program_usage(const char *command, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("leveret: ", stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nTry: leveret %s%s--help\n", command, command[0] ? " " : "");
    return LVT_EXIT_USAGE;
}

/* The flag's place in the list; -1 when it is not there. */
static int find_flag(const char *const flags[], const char *argument) {
    for (int i = 0; flags[i]; i++)
        if (strcmp(argument, flags[i]) == 0)
            return i;
    return -1;
}

int lvt_program_options(int argc, char **argv, const char *help, const char *const flags[],
                        bool *ret_flags, const char **ret_config) {
    for (int i = 1; i < argc; i++) {
        const char *argument = argv[i];
        int flag = find_flag(flags, argument);
        if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
            fputs(help, stdout);
            return LVT_EXIT_OK;
        }
        if (flag >= 0) {
            ret_flags[flag] = true;
        } else if (strcmp(argument, "-c") == 0 || strcmp(argument, "--config") == 0) {
            if (++i == argc)
                return lvt_program_usage(argv[0], "%s wants a file", argument);
            *ret_config = argv[i];
        } else if (strncmp(argument, "--config=", 9) == 0) {
            *ret_config = argument + 9;
        } else {
            return lvt_program_usage(argv[0], "%s does not know %s", argv[0], argument);
        }
    }
    return -1;
}
