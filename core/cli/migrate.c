#include <stdio.h>
#include <unistd.h>

#include "cli/program.h"
#include "ledger/ledger.h"

static const char help[] =
    "usage: leveret migrate [-c FILE]\n"
    "\n"
    "Creates the tables in PostgreSQL (postgres.url, or DATABASE_URL), or brings them up to this\n"
    "version. A table processed_events of a worker written by hand keeps its rows; stop that\n"
    "worker first. May be run again at any time.\n";

static void print_line(void *ctx, const char *line) {
    (void)ctx;
    puts(line);
}

int lvt_command_migrate(int argc, char **argv) {
    struct lvt_program program = {.log_fd = STDERR_FILENO};
    struct leveret_error err;
    const char *config_path = NULL;
    const char *const flags[] = {NULL};
    int status = lvt_program_options(argc, argv, help, flags, NULL, &config_path);
    if (status >= 0)
        return status;
    enum leveret_code code = lvt_program_configure(&program, config_path, &err);
    if (code == LEVERET_OK)
        code = lvt_ledger_migrate(program.config.postgres.url, print_line, NULL, &err);
    status = code == LEVERET_OK ? LVT_EXIT_OK : lvt_program_fail(&err);
    lvt_program_done(&program);
    return status;
}
