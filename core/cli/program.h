/* What the commands share: how they fail, and how they get at the configuration. */
#ifndef LEVERET_CLI_PROGRAM_H
#define LEVERET_CLI_PROGRAM_H

#include <stdatomic.h>

#include "base/error.h"
#include "cli/log_writer.h"
#include "config/config.h"
#include "worker/worker.h"

/* As sysexits.h has them. */
enum lvt_exit {
    LVT_EXIT_OK = 0,
    LVT_EXIT_FAILED = 1, /* what was asked for was done, and its outcome is a failure */
    LVT_EXIT_USAGE = 64,
    LVT_EXIT_DATA = 65,
    LVT_EXIT_NO_INPUT = 66,
    LVT_EXIT_UNAVAILABLE = 69,
    LVT_EXIT_SOFTWARE = 70,
    LVT_EXIT_LATER = 75,
    LVT_EXIT_CONFIG = 78,
    LVT_EXIT_INTERRUPTED = 130, /* as a shell has it for SIGINT */
};

/* A running command's configuration, log and worker. */
struct lvt_program {
    struct lvt_config config;
    struct lvt_log_writer writer;
    struct lvt_log log;
    struct leveret_worker *worker; /* NULL until lvt_program_make_worker */
    int log_fd;                    /* set before lvt_program_configure: where the log goes */
};

/* Reads the file (NULL: leveret.lua where there is one, else the defaults), the environment's
 * variables over it, and opens the log. */
enum leveret_code lvt_program_configure(struct lvt_program *program, const char *config_path,
                                        struct leveret_error *err) LVT_MUST_CHECK;
/* A worker with the handlers that the configuration names. */
enum leveret_code lvt_program_make_worker(struct lvt_program *program,
                                          struct leveret_error *err) LVT_MUST_CHECK;
/* supervise.c: runs the worker that was made until it is asked to stop. */
enum leveret_code lvt_program_run_worker(struct lvt_program *program,
                                         struct leveret_error *err) LVT_MUST_CHECK;
/* Runs as many lanes as are configured, until they have ended: the exit code. The program is done
 * then. Returns in the lanes as well. */
int lvt_program_supervise(struct lvt_program *program);
void lvt_program_done(struct lvt_program *program);

/* Set by SIGINT or SIGTERM once they are caught: end, and lose nothing. A second one ends the
 * process. */
extern atomic_bool lvt_program_stop;
void lvt_program_catch_signals(void);

/* The exit code that fits. */
int lvt_program_exit(enum leveret_code code);
/* Writes "leveret: <text>" to standard error, and returns it. */
int lvt_program_fail(const struct leveret_error *err);
/* The same, for a command line that cannot be used: names the command's --help. */
int lvt_program_usage(const char *command, const char *format, ...) LVT_PRINTF(2, 3);

/* The options that every command with a configuration takes: -c FILE and --help. Returns -1 to go
 * on, or the exit code. ret_flags has a place for each of `flags`, which ends with NULL: it is set
 * when that flag was given. */
int lvt_program_options(int argc, char **argv, const char *help, const char *const flags[],
                        bool *ret_flags, const char **ret_config);

/* The commands; each returns the exit code. argv[0] is the command's name. */
int lvt_command_run(int argc, char **argv);
int lvt_command_check(int argc, char **argv);
int lvt_command_exec(int argc, char **argv);
int lvt_command_migrate(int argc, char **argv);
int lvt_command_dlq(int argc, char **argv);
int lvt_command_publish(int argc, char **argv);
int lvt_command_version(int argc, char **argv);

#endif
