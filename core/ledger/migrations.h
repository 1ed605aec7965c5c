/* The files of sql/, which the build puts into the program. */
#ifndef LEVERET_LEDGER_MIGRATIONS_H
#define LEVERET_LEDGER_MIGRATIONS_H

#include <stddef.h>

struct lvt_migration {
    int version;      /* the number that its file's name starts with */
    const char *name; /* the file's, without .sql */
    const char *sql;
};

extern const struct lvt_migration lvt_migrations[]; /* by version */
extern const size_t lvt_migration_count;

#endif
