#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/program.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"run", lvt_command_run, "run the worker; --embedded needs no server"},
    {"check", lvt_command_check, "validate configuration and handlers, print the routes"},
    {"exec", lvt_command_exec, "run one handler on one event, and show all that it asks for"},
    {"dlq", lvt_command_dlq, "list, show, replay or discard dead letters"},
    {"publish", lvt_command_publish, "publish events, confirmed by the broker"},
    {"migrate", lvt_command_migrate, "create or upgrade the tables in PostgreSQL"},
    {"version", lvt_command_version, "print the version, and those of the libraries"},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static void print_help(void) {
    puts(
        "leveret: an event worker for RabbitMQ, PostgreSQL and Redis\n"
        "\n"
        "usage: leveret COMMAND [OPTIONS]\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-10s %s\n", commands[i].name, commands[i].summary);
    puts(
        "\n"
        "leveret COMMAND --help tells more of one. The configuration is leveret.lua, or the file\n"
        "after -c; RABBITMQ_URL, DATABASE_URL, REDIS_URL and LEVERET_* win over it.\n"
        "Exit codes: 0 done, 64 usage, 69 a service is unavailable, 78 configuration; exec has\n"
        "more.");
}

/* In the place of one that is closed the next file or connection would be opened, and have the log
 * written into it. */
static void open_standard_files(void) {
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* What was asked for may not have arrived: a full disk. */
static int flushed(int status) {
    bool failed = fflush(stdout) != 0;
    if (status != LVT_EXIT_OK || !(failed || ferror(stdout)))
        return status;
    fputs("leveret: standard output does not take it all\n", stderr);
    return LVT_EXIT_SOFTWARE;
}

int main(int argc, char **argv) {
    open_standard_files();
    if (argc < 2)
        return lvt_program_usage("", "no command was given");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help();
        return flushed(LVT_EXIT_OK);
    }
    const char *name = strcmp(argv[1], "--version") == 0 ? "version" : argv[1];
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(name, commands[i].name) == 0)
            return flushed(commands[i].run(argc - 1, argv + 1));
    return lvt_program_usage("", "there is no command %s", argv[1]);
}
