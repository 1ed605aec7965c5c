/* A program that is run to its end. */
#ifndef LEVERET_PLUGINS_BACKUP_CHILD_H
#define LEVERET_PLUGINS_BACKUP_CHILD_H

#include "common/failure.h"

struct lvt_child {
    char *const *words; /* the program, found by PATH unless it has a slash, and its arguments */
    char *const *environment; /* nothing else of the worker's reaches it */
    int in, out;              /* its standard input and output */
    /* Asked several times a second; once it says no the child is ended. */
    bool (*wanted)(void *ctx);
    void *ctx;
};

/* True when it ended with 0; else LEVERET_RETRY, with the end of what it said on standard error. */
bool lvt_child_run(const struct lvt_child *child, struct lvt_failure *failure);

#endif
