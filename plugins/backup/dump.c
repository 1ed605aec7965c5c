#include "backup/dump.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/child.h"

static bool fail_system(const char *what, struct lvt_failure *failure) {
    return lvt_failed(failure, LEVERET_RETRY, "the dump cannot be %s: %s", what, strerror(errno));
}

static bool run(const struct lvt_dump *dump, char *const *words, int in, int out,
                struct lvt_failure *failure) {
    const struct lvt_child child = {.words = words,
                                    .environment = dump->environment,
                                    .in = in,
                                    .out = out,
                                    .wanted = dump->wanted,
                                    .ctx = dump->ctx};
    return lvt_child_run(&child, failure);
}

/* Both programs get the file as it is open here: no path that could mean another one by then. */
static bool write_and_read(const struct lvt_dump *dump, int file, struct lvt_failure *failure) {
    char *const write_words[] = {dump->pg_dump, "--format=custom", "--no-password",
                                 dump->compress ? "--compress=6" : "--compress=0", NULL};
    char *const read_words[] = {dump->pg_restore, "--file=/dev/null", NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return fail_system("written", failure);
    bool done = run(dump, write_words, null, file, failure);
    if (done && lseek(file, 0, SEEK_SET) != 0)
        done = fail_system("read back", failure);
    done = done && run(dump, read_words, file, null, failure);
    close(null);
    return done;
}

static bool finish(const struct lvt_dump *dump, int file, const char *unfinished,
                   int64_t *ret_bytes, struct lvt_failure *failure) {
    struct stat status;
    if (fsync(file) != 0 || fstat(file, &status) != 0 ||
        renameat(dump->folder, unfinished, dump->folder, dump->name) != 0 ||
        fsync(dump->folder) != 0)
        return fail_system("kept", failure);
    *ret_bytes = status.st_size;
    return true;
}

bool lvt_dump_write(const struct lvt_dump *dump, int64_t *ret_bytes, struct lvt_failure *failure) {
    char unfinished[NAME_MAX + 1];
    int len = snprintf(unfinished, sizeof unfinished, ".%s.part", dump->name);
    if (len < 0 || (size_t)len >= sizeof unfinished)
        return lvt_failed(failure, LEVERET_REJECT, "the name of the dump is too long");
    unlinkat(dump->folder, unfinished, 0); /* of a run that was killed */
    int file =
        openat(dump->folder, unfinished, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0)
        return fail_system("created", failure);
    bool done =
        write_and_read(dump, file, failure) && finish(dump, file, unfinished, ret_bytes, failure);
    if (!done)
        unlinkat(dump->folder, unfinished, 0);
    close(file);
    return done;
}
