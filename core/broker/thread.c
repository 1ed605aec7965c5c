#include "broker/thread.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

uint64_t lvt_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

enum leveret_code lvt_thread_start(pthread_t *ret, size_t stack_size, void *(*run)(void *),
                                   void *arg, struct leveret_error *err) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    int status = stack_size > 0 ? pthread_attr_setstacksize(&attributes, stack_size) : 0;
    if (status == 0) {
        sigset_t all, before;
        sigfillset(&all);
        static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
        for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
            sigdelset(&all, faults[i]);
        }
        pthread_sigmask(SIG_SETMASK, &all, &before); /* which the new thread inherits */
        status = pthread_create(ret, &attributes, run, arg);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attributes);
    if (status != 0) {
        return leveret_fail(err, LEVERET_SYSTEM, "cannot start a thread: %s", strerror(status));
    }
    return LEVERET_OK;
}

void lvt_eventfd_wake(int fd) {
    eventfd_write(fd, 1); /* fails only when it is full: then it is awake */
}

void lvt_eventfd_wait_with(int fd, int other_fd, int timeout_ms) {
    struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = other_fd, .events = POLLIN}};
    if (poll(fds, 2, timeout_ms) > 0 && fds[0].revents) {
        eventfd_t value;
        eventfd_read(fd, &value);
    }
}

void lvt_eventfd_wait(int fd, int timeout_ms) {
    lvt_eventfd_wait_with(fd, -1, timeout_ms);
}
