/* A few connections to PostgreSQL, shared by threads: made when they are wanted, and again when
 * they were lost. */
#ifndef POSTGRES_H
#define POSTGRES_H

#include <libpq-fe.h>
#include <stdbool.h>

#define POSTGRES_CONNECTIONS 4

struct postgres;

/* Connects to nothing yet. `setup` is run on each new connection, and lasts as long as the struct;
 * so does `url`. NULL when out of memory. */
struct postgres *postgres_new(const char *url, const char *setup);
void postgres_free(struct postgres *postgres);

/* Runs one statement, in a transaction of its own, with texts as its parameters; waits for a free
 * connection. NULL when that failed, which is logged; else PQclear frees the result. */
PGresult *postgres_run(struct postgres *postgres, const char *sql, const char *const parameters[],
                       int count);

#endif
