#include "base/thread.h"

#include <signal.h>
#include <string.h>

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
