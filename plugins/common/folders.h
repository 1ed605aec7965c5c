/* Folders that an event may name: those below the roots that the configuration allows. Each step
 * down is made from the folder above it, and follows no symbolic link: nobody can lead it out. */
#ifndef LEVERET_PLUGINS_FOLDERS_H
#define LEVERET_PLUGINS_FOLDERS_H

#include "common/failure.h"

#define LVT_ROOTS_MAX 32

struct lvt_roots {
    char *paths[LVT_ROOTS_MAX]; /* absolute, without a slash at the end */
    size_t count;
};

/* Copies a path of the configuration, which may go through symbolic links. */
bool lvt_roots_add(struct lvt_roots *roots, const char *path, struct lvt_failure *failure);
void lvt_roots_free(struct lvt_roots *roots);

/* Opens a root, or a folder below it, for reading. The path is absolute. */
bool lvt_roots_open(const struct lvt_roots *roots, const char *path, int *ret_fd,
                    struct lvt_failure *failure);

/* The same for a path that is relative to the root; empty: the root. */
bool lvt_folder_open(const char *root, const char *below, int *ret_fd, struct lvt_failure *failure);

#endif
