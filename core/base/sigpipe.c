#include "base/sigpipe.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

static bool is_pending(void) {
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGPIPE) == 1;
}

void lvt_sigpipe_hold(struct lvt_sigpipe *ret_held) {
    sigset_t sigpipe;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    bool pending = is_pending();
    pthread_sigmask(SIG_BLOCK, &sigpipe, &ret_held->mask);
    ret_held->taken = pending || sigismember(&ret_held->mask, SIGPIPE) == 1;
}

void lvt_sigpipe_release(const struct lvt_sigpipe *held) {
    const struct timespec at_once = {0};
    sigset_t sigpipe;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    if (held->taken)
        return;
    if (is_pending()) {
        while (sigtimedwait(&sigpipe, NULL, &at_once) < 0 && errno == EINTR)
            ; /* a signal that this thread handles came first */
    }
    pthread_sigmask(SIG_SETMASK, &held->mask, NULL);
}
