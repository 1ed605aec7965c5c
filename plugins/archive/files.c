#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY_S 86400
#define CLOSED ".jsonl"
#define OPEN ".jsonl.open"
#define NAME_TRIES 100

/* False, with the reason that errno gives. */
static bool fail(const struct files *files, const char *what, char text[FILES_TEXT_BYTES]) {
    const char *slash = files->name[0] ? "/" : "";
    snprintf(text, FILES_TEXT_BYTES, "cannot %s %s%s%s: %m", what, files->dir, slash, files->name);
    return false;
}

bool files_check(const char *dir, char text[FILES_TEXT_BYTES]) {
    struct stat status;
    char copy[PATH_MAX];
    const char *writable = dir;
    if (stat(dir, &status) != 0) {
        if (errno != ENOENT || strlen(dir) >= sizeof copy) {
            snprintf(text, FILES_TEXT_BYTES, "dir: %s: %m", dir);
            return false;
        }
        strcpy(copy, dir);
        writable = dirname(copy);
    } else if (!S_ISDIR(status.st_mode)) {
        snprintf(text, FILES_TEXT_BYTES, "dir: %s is no folder", dir);
        return false;
    }
    if (access(writable, W_OK | X_OK) == 0)
        return true;
    snprintf(text, FILES_TEXT_BYTES, "dir: %s: cannot write to %s: %m", dir, writable);
    return false;
}

__attribute__((format(printf, 2, 3))) static void tell(const struct files *files,
                                                       const char *format, ...) {
    char text[FILES_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    files->tell(files->ctx, text);
}

static bool open_dir(struct files *files, char text[FILES_TEXT_BYTES]) {
    files->name[0] = '\0';
    if (files->dir_fd >= 0)
        close(files->dir_fd);
    files->dir_fd = -1;
    if (mkdir(files->dir, 0700) != 0 && errno != EEXIST)
        return fail(files, "make", text);
    files->dir_fd = open(files->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return files->dir_fd >= 0 || fail(files, "open", text);
}

/* ---- closing ---- */

/* Under the lock that `fd` holds, so that nobody repairs what is being closed. */
static void rename_closed(struct files *files, const char *name) {
    char closed[FILES_NAME_BYTES];
    snprintf(closed, sizeof closed, "%.*s" CLOSED, (int)(strlen(name) - strlen(OPEN)), name);
    if (renameat(files->dir_fd, name, files->dir_fd, closed) != 0)
        tell(files, "%s/%s cannot be renamed: %m", files->dir, name);
    fsync(files->dir_fd);
}

void files_close(struct files *files) {
    struct stat status;
    if (files->fd >= 0) {
        if (files->bytes == 0)
            unlinkat(files->dir_fd, files->name, 0);
        else if (fstat(files->fd, &status) == 0 && status.st_nlink > 0)
            rename_closed(files, files->name);
        close(files->fd);
    }
    if (files->dir_fd >= 0)
        close(files->dir_fd);
    files->fd = files->dir_fd = -1;
    files->bytes = 0;
}

/* ---- what a crash has left ---- */

/* Where the whole lines end. What was never synced may have holes, which read as NULs, behind
 * which another line can be whole: JSON has no NULs. -1: it cannot be read. */
static int64_t find_whole_lines(int fd) {
    static const size_t block_size = 65536;
    char *block = malloc(block_size);
    int64_t whole = 0, at = 0;
    ssize_t got = -1;
    while (block && (got = pread(fd, block, block_size, at)) > 0) {
        const char *hole = memchr(block, '\0', (size_t)got);
        size_t len = hole ? (size_t)(hole - block) : (size_t)got;
        const char *newline = memrchr(block, '\n', len);
        if (newline)
            whole = at + (newline - block) + 1;
        if (hole)
            break;
        at += got;
    }
    free(block);
    return got < 0 ? -1 : whole;
}

/* Whether the locked file still is the folder's one of that name: its owner may just have closed
 * it. */
static bool is_named(const struct files *files, int fd, const char *name, struct stat *ret_status) {
    struct stat named;
    return fstat(fd, ret_status) == 0 && fstatat(files->dir_fd, name, &named, 0) == 0 &&
           named.st_dev == ret_status->st_dev && named.st_ino == ret_status->st_ino;
}

static void recover_file(struct files *files, const char *name) {
    struct stat status;
    int fd = openat(files->dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0 || !is_named(files, fd, name, &status)) {
        if (fd >= 0)
            close(fd);
        return; /* somebody else's */
    }
    int64_t whole = find_whole_lines(fd);
    if (whole == 0) {
        unlinkat(files->dir_fd, name, 0);
    } else if (whole < 0 || ftruncate(fd, whole) != 0 || fsync(fd) != 0) {
        tell(files, "%s/%s, which a crash has left, cannot be repaired: %m", files->dir, name);
    } else {
        tell(files, "closed %s/%s, which a crash had left; cut off %lld bytes of a torn line",
             files->dir, name, (long long)(status.st_size - whole));
        rename_closed(files, name);
    }
    close(fd);
}

static bool recover(struct files *files, char text[FILES_TEXT_BYTES]) {
    int fd = dup(files->dir_fd);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        fail(files, "read", text);
        if (fd >= 0)
            close(fd);
        return false;
    }
    const struct dirent *entry;
    while ((entry = readdir(dir))) {
        size_t len = strlen(entry->d_name), suffix = strlen(OPEN);
        if (len > suffix && len < FILES_NAME_BYTES &&
            strcmp(entry->d_name + len - suffix, OPEN) == 0)
            recover_file(files, entry->d_name);
    }
    closedir(dir);
    files->recovered = true;
    return true;
}

/* ---- writing ---- */

/* Names sort as their files were begun; two hosts that share a folder, or send their files to one
 * place, never choose the same. */
static void choose_name(const struct timespec *now, char name[FILES_NAME_BYTES]) {
    char host[65] = "", time[32];
    struct tm tm;
    gethostname(host, sizeof host - 1);
    for (char *c = host; *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", *c))
            *c = '-';
    gmtime_r(&now->tv_sec, &tm);
    strftime(time, sizeof time, "%Y-%m-%dT%H%M%S", &tm);
    snprintf(name, FILES_NAME_BYTES, "%s.%06ldZ-%s" OPEN, time, now->tv_nsec / 1000, host);
}

static bool begin(struct files *files, const struct timespec *now, char text[FILES_TEXT_BYTES]) {
    struct timespec at = *now;
    struct stat status;
    if (!open_dir(files, text) || (!files->recovered && !recover(files, text)))
        return false;
    for (int i = 0; i < NAME_TRIES; i++) {
        choose_name(&at, files->name);
        files->fd = openat(files->dir_fd, files->name,
                           O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (files->fd < 0 && errno != EEXIST)
            return fail(files, "make", text);
        /* Another process may have taken it for one that a crash has left. */
        if (files->fd >= 0 && flock(files->fd, LOCK_EX | LOCK_NB) == 0 &&
            is_named(files, files->fd, files->name, &status)) {
            files->bytes = 0;
            files->day = at.tv_sec / DAY_S;
            if (fsync(files->dir_fd) == 0)
                return true;
            fail(files, "sync the folder of", text);
            files_close(files);
            return false;
        }
        if (files->fd >= 0)
            close(files->fd);
        files->fd = -1;
        at.tv_nsec = (at.tv_nsec + 1000) % 1000000000;
    }
    errno = EEXIST;
    return fail(files, "make", text);
}

/* The file is gone, or somebody has taken it away: what is written there would be lost. */
static bool is_lost(const struct files *files) {
    struct stat status;
    return fstat(files->fd, &status) != 0 || status.st_nlink == 0;
}

static bool write_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t put = write(fd, data, len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            errno = put == 0 ? EIO : errno;
            return false;
        }
        data += put;
        len -= (size_t)put;
    }
    return true;
}

/* It has a torn line at its end: it is left as a crash would leave it. */
static void abandon(struct files *files) {
    close(files->fd);
    files->fd = -1;
    files->recovered = false;
}

bool files_append(struct files *files, const struct timespec *now, const char *lines, size_t len,
                  char text[FILES_TEXT_BYTES]) {
    if (files->fd >= 0 && (files->day != now->tv_sec / DAY_S || is_lost(files) ||
                           (files->bytes > 0 && files->bytes + len > files->bytes_max)))
        files_close(files);
    if (files->fd < 0 && !begin(files, now, text))
        return false;
    bool written = write_all(files->fd, lines, len);
    if (written && fdatasync(files->fd) == 0) {
        files->bytes += len;
        return true;
    }
    fail(files, written ? "sync" : "write to", text);
    if (ftruncate(files->fd, (off_t)files->bytes) != 0) {
        abandon(files);
    } else if (written) {
        /* What the system holds of a file after a failed sync is not what the disk holds: it is
         * written no more. */
        files_close(files);
    }
    return false;
}

time_t files_day_end(const struct files *files) {
    return files->fd >= 0 ? (files->day + 1) * DAY_S : 0;
}
