/* Resolves a URL's host names on the loop, because libpq itself would block on DNS. */
#ifndef LEVERET_LEDGER_PG_ADDRESS_H
#define LEVERET_LEDGER_PG_ADDRESS_H

#include <libpq-fe.h>
#include <uv.h>

#include "base/buffer.h"

/* Lists with commas, entry by entry for each other: libpq tries them in turn. Empty when the URL
 * leaves the choice to libpq's own defaults. */
struct lvt_pg_address {
    struct lvt_buffer hosts, addresses, ports;
    size_t count;
    /* under way */
    uv_getaddrinfo_t request;
    bool busy;
    char *names;
    const char *next_name, *next_port;
    char error[400];
    void (*done)(struct lvt_pg_address *address, bool ok);
};

void lvt_pg_address_init(struct lvt_pg_address *address);
void lvt_pg_address_free(struct lvt_pg_address *address); /* not while busy */

/* Calls done once, perhaps before it returns. When it was not ok, error says why. */
void lvt_pg_address_resolve(struct lvt_pg_address *address, uv_loop_t *loop,
                            const PQconninfoOption *options,
                            void (*done)(struct lvt_pg_address *address, bool ok));

/* The value that the URL gives an option; NULL when it gives none. */
const char *lvt_pg_option(const PQconninfoOption *options, const char *keyword);

#endif
