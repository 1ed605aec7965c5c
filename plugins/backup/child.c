#include "backup/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAID_MAX 400
#define PATIENCE_MS 5000 /* between SIGTERM and SIGKILL */
#define POLL_MS 50

struct run {
    const struct lvt_child *child;
    pid_t pid;
    int errors; /* our end of its standard error; -1: it has closed its own */
    char said[SAID_MAX + 1];
    size_t said_len;
    int64_t asked_to_end_ms; /* 0: not yet */
};

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* In a group of its own, with the signals as they are for a program that a shell starts: the
 * threads of the host's pool block them all. */
static int spawn(struct run *run, int errors) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    int status = posix_spawn_file_actions_init(&files);
    if (status != 0)
        return status;
    status = posix_spawnattr_init(&attributes);
    if (status != 0) {
        posix_spawn_file_actions_destroy(&files);
        return status;
    }
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setsigmask(&attributes, &none);
    if ((status = posix_spawn_file_actions_adddup2(&files, run->child->in, 0)) == 0 &&
        (status = posix_spawn_file_actions_adddup2(&files, run->child->out, 1)) == 0 &&
        (status = posix_spawn_file_actions_adddup2(&files, errors, 2)) == 0 &&
        (status = posix_spawn_file_actions_addclosefrom_np(&files, 3)) == 0)
        status = posix_spawnp(&run->pid, run->child->words[0], &files, &attributes,
                              run->child->words, run->child->environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return status;
}

/* Keeps the end of what it says, in one line. */
static void listen_to(struct run *run) {
    char heard[512];
    ssize_t len;
    while ((len = read(run->errors, heard, sizeof heard)) > 0) {
        for (ssize_t i = 0; i < len; i++) {
            if (run->said_len == SAID_MAX)
                memmove(run->said, run->said + 1, --run->said_len);
            run->said[run->said_len++] = (unsigned char)heard[i] < ' ' ? ' ' : heard[i];
        }
    }
    if (len == 0) {
        close(run->errors);
        run->errors = -1;
    }
}

static void end_when_unwanted(struct run *run) {
    if (run->asked_to_end_ms == 0 && !run->child->wanted(run->child->ctx)) {
        kill(-run->pid, SIGTERM);
        run->asked_to_end_ms = now_ms();
    } else if (run->asked_to_end_ms > 0 && now_ms() - run->asked_to_end_ms > PATIENCE_MS) {
        kill(-run->pid, SIGKILL);
    }
}

/* Returns waitpid's status, or -1. */
static int await(struct run *run) {
    int status;
    pid_t ended;
    while ((ended = waitpid(run->pid, &status, WNOHANG)) == 0 || (ended < 0 && errno == EINTR)) {
        struct pollfd errors = {.fd = run->errors, .events = POLLIN};
        end_when_unwanted(run);
        poll(&errors, 1, POLL_MS);
        if (run->errors >= 0)
            listen_to(run);
    }
    if (run->errors >= 0)
        listen_to(run);
    run->said[run->said_len] = '\0';
    return ended < 0 ? -1 : status;
}

bool lvt_child_run(const struct lvt_child *child, struct lvt_failure *failure) {
    struct run run = {.child = child};
    const char *program = child->words[0];
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return lvt_failed(failure, LEVERET_RETRY, "no pipe for %s: %s", program, strerror(errno));
    run.errors = ends[0];
    int error = fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 ? spawn(&run, ends[1]) : errno;
    close(ends[1]);
    int status = error == 0 ? await(&run) : 0;
    if (run.errors >= 0)
        close(run.errors);
    if (error != 0)
        return lvt_failed(failure, LEVERET_RETRY, "%s cannot be started: %s", program,
                          strerror(error));
    if (run.asked_to_end_ms > 0)
        return lvt_failed(failure, LEVERET_RETRY, "%s was ended: the event is over", program);
    if (status == -1)
        return lvt_failed(failure, LEVERET_RETRY, "the end of %s is not known", program);
    if (WIFSIGNALED(status))
        return lvt_failed(failure, LEVERET_RETRY, "%s was killed by signal %d: %s", program,
                          WTERMSIG(status), run.said);
    if (WEXITSTATUS(status) != 0)
        return lvt_failed(failure, LEVERET_RETRY, "%s ended with %d: %s", program,
                          WEXITSTATUS(status), run.said);
    return true;
}
