#include "cleanup/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 64  /* each takes a descriptor */
#define ASK_EVERY 256 /* files */

struct walk {
    struct lvt_sweep *sweep;
    struct lvt_failure *failure;
    dev_t device;
    int64_t errors;
    unsigned seen;
    bool unwanted;
};

/* The first of them is told. */
static void note_error(struct walk *walk, const char *what, const char *name) {
    if (walk->errors++ == 0)
        lvt_failed(walk->failure, LEVERET_RETRY, "%s cannot be %s: %s", name, what,
                   strerror(errno));
}

static void visit_file(struct walk *walk, int folder, const char *name, const struct stat *status) {
    if (status->st_mtime >= walk->sweep->before)
        return;
    if (!walk->sweep->dry_run && unlinkat(folder, name, 0) != 0) {
        if (errno != ENOENT)
            note_error(walk, "deleted", name);
        return;
    }
    walk->sweep->files++;
    walk->sweep->bytes += status->st_size;
}

static void visit_folder(struct walk *walk, int folder, int depth);

static void enter(struct walk *walk, int folder, const char *name, int depth) {
    if (depth == DEPTH_MAX) {
        errno = ELOOP;
        note_error(walk, "entered", name);
        return;
    }
    int below = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (below >= 0)
        visit_folder(walk, below, depth);
    else if (errno != ENOENT)
        note_error(walk, "entered", name);
}

static void visit(struct walk *walk, int folder, const char *name, int depth) {
    struct stat status;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return;
    if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno != ENOENT)
            note_error(walk, "looked at", name);
    } else if (S_ISREG(status.st_mode)) {
        visit_file(walk, folder, name, &status);
    } else if (S_ISDIR(status.st_mode) && status.st_dev == walk->device) {
        enter(walk, folder, name, depth + 1);
    }
}

static void visit_folder(struct walk *walk, int folder, int depth) {
    struct dirent *entry;
    DIR *stream = fdopendir(folder);
    if (!stream) {
        note_error(walk, "read", "a folder");
        close(folder);
        return;
    }
    while (!walk->unwanted && (errno = 0, entry = readdir(stream))) {
        if (walk->seen++ % ASK_EVERY == 0)
            walk->unwanted = !walk->sweep->wanted(walk->sweep->ctx);
        if (!walk->unwanted)
            visit(walk, folder, entry->d_name, depth);
    }
    if (!walk->unwanted && errno != 0)
        note_error(walk, "read", "a folder");
    closedir(stream);
}

bool lvt_sweep_folder(struct lvt_sweep *sweep, int folder, struct lvt_failure *failure) {
    struct walk walk = {.sweep = sweep, .failure = failure};
    struct stat status;
    if (fstat(folder, &status) != 0) {
        close(folder);
        return lvt_failed(failure, LEVERET_RETRY, "the folder: %s", strerror(errno));
    }
    walk.device = status.st_dev;
    visit_folder(&walk, folder, 0);
    if (walk.unwanted && walk.errors == 0)
        return lvt_failed(failure, LEVERET_RETRY, "the event is over");
    return walk.errors == 0;
}
