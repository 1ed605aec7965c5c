/* What a handler's file says about the handler before it is opened up. */
#ifndef LEVERET_RUNTIME_FILE_H
#define LEVERET_RUNTIME_FILE_H

#include <stddef.h>
#include <stdio.h>

#include "base/error.h"

#define LVT_VERSION_SIZE 13

/* Opens a file to read, and never waits; whether it is an ordinary one is for the caller to see.
 * NULL, with errno. */
FILE *lvt_file_open(const char *path);

/* A handler's version: the first 12 hexadecimal digits of its file's SHA-256. */
void lvt_file_version(const void *content, size_t len, char ret_version[LVT_VERSION_SIZE]);
/* The same of a file as it is now. LEVERET_UNAVAILABLE: there is none; LEVERET_CONFIG: it cannot be
 * read. */
enum leveret_code lvt_file_read_version(const char *path, char ret_version[LVT_VERSION_SIZE],
                                        struct leveret_error *err) LVT_MUST_CHECK;

/* Its name: the file's without the folder, and without the suffix when it has it. NULL when out of
 * memory; the caller frees it. */
char *lvt_file_handler_name(const char *path, const char *suffix);

#endif
