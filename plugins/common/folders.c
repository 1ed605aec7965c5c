#include "common/folders.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool lvt_roots_add(struct lvt_roots *roots, const char *path, struct lvt_failure *failure) {
    size_t len = strlen(path);
    if (path[0] != '/')
        return lvt_failed(failure, LEVERET_REJECT, "the root %s is no absolute path", path);
    while (len > 0 && path[len - 1] == '/')
        len--;
    if (len == 0)
        return lvt_failed(failure, LEVERET_REJECT, "the root / would allow every folder");
    if (roots->count == LVT_ROOTS_MAX)
        return lvt_failed(failure, LEVERET_REJECT, "there are more than %d roots", LVT_ROOTS_MAX);
    char *copy = strndup(path, len);
    if (!copy)
        return lvt_failed_memory(failure);
    roots->paths[roots->count++] = copy;
    return true;
}

void lvt_roots_free(struct lvt_roots *roots) {
    for (size_t i = 0; i < roots->count; i++)
        free(roots->paths[i]);
    roots->count = 0;
}

/* A folder that is not there or cannot be entered may be tomorrow. */
static bool refuse(const char *path, struct lvt_failure *failure) {
    if (errno == ENOTDIR || errno == ELOOP)
        return lvt_failed(failure, LEVERET_REJECT,
                          "%s: a part of the path is no folder, or a symbolic link", path);
    return lvt_failed(failure, errno == ENAMETOOLONG ? LEVERET_REJECT : LEVERET_RETRY, "%s: %s",
                      path, strerror(errno));
}

/* One step, from *fd, which it closes and replaces. */
static bool enter(int *fd, const char *name, int flags) {
    int next = openat(*fd, name, flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0)
        return false;
    close(*fd);
    *fd = next;
    return true;
}

/* Refused before anything is opened, so that it is refused whatever there is. */
static bool climbs(const char *path) {
    for (const char *at = path; (at = strstr(at, "..")); at += 2)
        if ((at == path || at[-1] == '/') && (at[2] == '\0' || at[2] == '/'))
            return true;
    return false;
}

/* The path's words, one after the other. */
static bool descend(int *fd, const char *path, struct lvt_failure *failure) {
    char name[NAME_MAX + 1];
    for (const char *at = path; *at;) {
        size_t len = strcspn(at, "/");
        if (len > NAME_MAX) {
            errno = ENAMETOOLONG;
            return refuse(path, failure);
        }
        memcpy(name, at, len);
        name[len] = '\0';
        at += len + (at[len] == '/');
        if (len > 0 && strcmp(name, ".") != 0 && !enter(fd, name, O_PATH))
            return refuse(path, failure);
    }
    return enter(fd, ".", O_RDONLY) || refuse(path, failure);
}

bool lvt_folder_open(const char *root, const char *below, int *ret_fd,
                     struct lvt_failure *failure) {
    if (climbs(below))
        return lvt_failed(failure, LEVERET_REJECT, "%s: \"..\" is not allowed in a path", below);
    int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return refuse(root, failure);
    if (!descend(&fd, below, failure)) {
        close(fd);
        return false;
    }
    *ret_fd = fd;
    return true;
}

bool lvt_roots_open(const struct lvt_roots *roots, const char *path, int *ret_fd,
                    struct lvt_failure *failure) {
    const char *root = NULL;
    size_t root_len = 0;
    if (path[0] != '/')
        return lvt_failed(failure, LEVERET_REJECT, "%s is no absolute path", path);
    for (size_t i = 0; i < roots->count; i++) {
        size_t len = strlen(roots->paths[i]);
        bool below = strncmp(path, roots->paths[i], len) == 0 && (!path[len] || path[len] == '/');
        if (below && len > root_len) {
            root = roots->paths[i];
            root_len = len;
        }
    }
    if (!root)
        return lvt_failed(failure, LEVERET_REJECT,
                          "%s is outside the folders that the configuration allows", path);
    return lvt_folder_open(root, path + root_len, ret_fd, failure);
}
