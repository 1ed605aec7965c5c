/* Old files below a folder. */
#ifndef LEVERET_PLUGINS_CLEANUP_FILES_H
#define LEVERET_PLUGINS_CLEANUP_FILES_H

#include <time.h>

#include "common/failure.h"

struct lvt_sweep {
    time_t before; /* last changed before that */
    bool dry_run;
    /* Asked now and then; once it says no the rest is left. */
    bool (*wanted)(void *ctx);
    void *ctx;
    /* What it comes to, also when it fails half-way. */
    int64_t files, bytes;
};

/* Deletes regular files, in the folder and in those below it, or, in a dry run, counts them.
 * Follows no symbolic link, goes to no other file system, and leaves the folders. Takes the
 * descriptor. What cannot be read or deleted is passed over, and a failure in the end. */
bool lvt_sweep_folder(struct lvt_sweep *sweep, int folder, struct lvt_failure *failure);

#endif
