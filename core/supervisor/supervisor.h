/* The parent of the lanes: starts them, restarts what dies, finds out which event was to blame, and
 * speaks for all of them, to systemd and on the admin pages. It starts no thread, and of client
 * libraries it uses the pages' one only: so it can fork at any time. */
#ifndef LEVERET_SUPERVISOR_SUPERVISOR_H
#define LEVERET_SUPERVISOR_SUPERVISOR_H

#include "base/error.h"
#include "base/log.h"
#include "blackbox/blackbox.h"
#include "config/config.h"

struct lvt_supervisor;

/* All that is pointed to stays the caller's, and outlives the supervisor. */
struct lvt_supervisor_options {
    const struct lvt_config *config;
    const struct lvt_log *log;
    const char *state_dir; /* NULL: charges do not outlive the supervisor */
};

enum lvt_supervised {
    LVT_SUPERVISED_END,  /* all lanes have ended */
    LVT_SUPERVISED_LANE, /* this is a lane: a new process, to do its work and end */
};

/* Binds the admin pages' address. No thread may have been started. */
enum leveret_code lvt_supervisor_new(const struct lvt_supervisor_options *options,
                                     struct lvt_supervisor **ret_supervisor,
                                     struct leveret_error *err) LVT_MUST_CHECK;

/* Returns in the supervisor at its end, and in each lane at its beginning, with *ret_post filled
 * in. *ret_signal is the second signal that asked for the end, if it took one, else 0. An error is
 * the one that made a lane give up. */
enum leveret_code lvt_supervisor_run(struct lvt_supervisor *supervisor, enum lvt_supervised *ret_as,
                                     struct lvt_post *ret_post, int *ret_signal,
                                     struct leveret_error *err) LVT_MUST_CHECK;

/* Not in a lane, where it belongs to the parent. NULL is fine. */
void lvt_supervisor_free(struct lvt_supervisor *supervisor);

#endif
