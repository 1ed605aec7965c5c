/* Writing to a connection that the other side has closed raises SIGPIPE, and neither hiredis nor
 * the TLS libraries keep it from doing so. Who uses them does it within a hold. */
#ifndef LEVERET_BASE_SIGPIPE_H
#define LEVERET_BASE_SIGPIPE_H

#include <signal.h>
#include <stdbool.h>

struct lvt_sigpipe {
    sigset_t mask; /* the thread's, before */
    bool taken;    /* it was blocked or pending before: it is somebody else's to deal with */
};

/* Blocks SIGPIPE in this thread, and in those that it starts from now on. */
void lvt_sigpipe_hold(struct lvt_sigpipe *ret_held);
/* Takes back one that came meanwhile, and restores the thread's mask. */
void lvt_sigpipe_release(const struct lvt_sigpipe *held);

#endif
