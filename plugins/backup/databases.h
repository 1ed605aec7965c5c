/* The databases that may be dumped, by the names that events give them. */
#ifndef LEVERET_PLUGINS_BACKUP_DATABASES_H
#define LEVERET_PLUGINS_BACKUP_DATABASES_H

#include "common/failure.h"

#define LVT_DATABASES_MAX 256
#define LVT_DATABASE_NAME_MAX 63

struct lvt_database {
    char *name;
    /* Of a program that is to work with it: PATH, HOME, and what tells libpq where it is. That
     * way no password is among a program's arguments, which everybody can read. */
    char **environment;
};

struct lvt_databases {
    struct lvt_database items[LVT_DATABASES_MAX];
    size_t count;
};

/* Letters, digits, "_", "-" and ".", the first one none of the last two. */
bool lvt_database_name_check(const char *name, struct lvt_failure *failure);

/* Reads {name: address}, an address being whatever libpq takes. */
bool lvt_databases_read(struct lvt_databases *databases, const struct leveret_host *host,
                        struct leveret_text table, struct lvt_failure *failure);
void lvt_databases_free(struct lvt_databases *databases);

/* NULL: there is none. */
const struct lvt_database *lvt_databases_find(const struct lvt_databases *databases,
                                              const char *name);

#endif
