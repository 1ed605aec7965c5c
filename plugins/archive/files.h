/* The archive's files: one is written at a time, by one process, and never again once it is closed.
 *
 *   DIR/2026-11-21T151800.123456Z-HOST.jsonl        closed: whole lines, on disk
 *   DIR/2026-11-21T151800.123456Z-HOST.jsonl.open   being written, under a lock; or left by a crash
 */
#ifndef LEVERET_PLUGINS_ARCHIVE_FILES_H
#define LEVERET_PLUGINS_ARCHIVE_FILES_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define FILES_NAME_BYTES 160
#define FILES_TEXT_BYTES 512

struct files {
    char *dir;
    uint64_t bytes_max; /* of a file */
    /* What was found and done that is worth a line of the log. */
    void (*tell)(void *ctx, const char *text);
    void *ctx;
    bool recovered; /* what crashes have left is closed */
    int dir_fd, fd; /* -1: none */
    char name[FILES_NAME_BYTES];
    uint64_t bytes;
    time_t day; /* of the file, in days since 1970 */
};

/* Whether the folder can be written, or made. Changes nothing. */
bool files_check(const char *dir, char text[FILES_TEXT_BYTES]);

/* Appends whole lines to the file of this moment's day; true when they are on disk. False, with a
 * text: nothing of them counts. They are no more than a file may have, but for a single line.
 * Makes the folder, when it is not there. Before the first line it closes the files that a crash
 * has left: what follows the last whole line of one is cut off, for no event in it was counted. */
bool files_append(struct files *files, const struct timespec *now, const char *lines, size_t len,
                  char text[FILES_TEXT_BYTES]);

/* When the open file's day ends; 0 without one. */
time_t files_day_end(const struct files *files);

/* Closes the open file, if there is one. */
void files_close(struct files *files);

#endif
