/* A database's dump, as a file that is whole or is not there. */
#ifndef LEVERET_PLUGINS_BACKUP_DUMP_H
#define LEVERET_PLUGINS_BACKUP_DUMP_H

#include "common/failure.h"

struct lvt_dump {
    char *pg_dump, *pg_restore; /* programs */
    char *const *environment;
    int folder;
    const char *name; /* of the file; one that is there is replaced */
    bool compress;
    /* As in struct lvt_child. */
    bool (*wanted)(void *ctx);
    void *ctx;
};

/* In pg_dump's custom format. It is read back as a whole before it gets its name. */
bool lvt_dump_write(const struct lvt_dump *dump, int64_t *ret_bytes, struct lvt_failure *failure);

#endif
