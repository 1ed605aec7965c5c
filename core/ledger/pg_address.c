#include "ledger/pg_address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX 16384
#define NAME_MAX_BYTES 256

static void advance(struct lvt_pg_address *address);

void lvt_pg_address_init(struct lvt_pg_address *address) {
    memset(address, 0, sizeof *address);
    lvt_buffer_init(&address->hosts, LIST_MAX);
    lvt_buffer_init(&address->addresses, LIST_MAX);
    lvt_buffer_init(&address->ports, LIST_MAX);
}

void lvt_pg_address_free(struct lvt_pg_address *address) {
    lvt_buffer_free(&address->hosts);
    lvt_buffer_free(&address->addresses);
    lvt_buffer_free(&address->ports);
    free(address->names);
    address->names = NULL;
}

const char *lvt_pg_option(const PQconninfoOption *options, const char *keyword) {
    for (; options->keyword; options++)
        if (strcmp(options->keyword, keyword) == 0)
            return options->val && options->val[0] ? options->val : NULL;
    return NULL;
}

static void append(struct lvt_pg_address *address, const char *host, const char *numeric,
                   struct lvt_bytes port) {
    if (address->count++ > 0) {
        lvt_buffer_char(&address->hosts, ',');
        lvt_buffer_char(&address->addresses, ',');
        lvt_buffer_char(&address->ports, ',');
    }
    lvt_buffer_text(&address->hosts, host);
    lvt_buffer_text(&address->addresses, numeric);
    lvt_buffer_append(&address->ports, port.data, port.len);
}

/* The entry of a list that starts at *at; moves *at to the next one, or to NULL. */
static struct lvt_bytes take_entry(const char **at) {
    const char *start = *at;
    size_t len = strcspn(start, ",");
    *at = start[len] ? start + len + 1 : NULL;
    return lvt_bytes(start, len);
}

/* One port may stand for all hosts. */
static struct lvt_bytes take_port(struct lvt_pg_address *address) {
    if (!address->next_port)
        return lvt_bytes("", 0);
    const char *at = address->next_port;
    struct lvt_bytes port = take_entry(&at);
    if (at)
        address->next_port = at;
    return port;
}

static void resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found) {
    struct lvt_pg_address *address = request->data;
    char host[NAME_MAX_BYTES], numeric[INET6_ADDRSTRLEN];
    struct lvt_bytes name = take_entry(&address->next_name);
    struct lvt_bytes port = take_port(address);
    address->busy = false;
    snprintf(host, sizeof host, "%.*s", (int)name.len, name.data);
    if (status != 0)
        snprintf(address->error, sizeof address->error, "the host %s cannot be resolved: %s", host,
                 uv_strerror(status));
    for (const struct addrinfo *at = found; status == 0 && at; at = at->ai_next) {
        int failed =
            at->ai_family == AF_INET6
                ? uv_ip6_name((const struct sockaddr_in6 *)at->ai_addr, numeric, sizeof numeric)
                : uv_ip4_name((const struct sockaddr_in *)at->ai_addr, numeric, sizeof numeric);
        if (!failed)
            append(address, host, numeric, port);
    }
    uv_freeaddrinfo(found);
    if (status == UV_ECANCELED)
        address->done(address, false);
    else
        advance(address);
}

static void finish(struct lvt_pg_address *address) {
    if (address->hosts.failed || address->addresses.failed || address->ports.failed) {
        snprintf(address->error, sizeof address->error, "the list of hosts is too long");
        address->done(address, false);
        return;
    }
    address->done(address, address->count > 0);
}

static void advance(struct lvt_pg_address *address) {
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    char host[NAME_MAX_BYTES];
    while (address->next_name) {
        const char *at = address->next_name;
        struct lvt_bytes name = take_entry(&at);
        if (name.len >= sizeof host) {
            snprintf(address->error, sizeof address->error, "a host's name is too long");
            address->done(address, false);
            return;
        }
        snprintf(host, sizeof host, "%.*s", (int)name.len, name.data);
        if (host[0] == '/' || host[0] == '@' || host[0] == '\0') { /* a Unix socket */
            append(address, host, "", take_port(address));
            address->next_name = at;
            continue;
        }
        address->request.data = address;
        int failed =
            uv_getaddrinfo(address->request.loop, &address->request, resolved, host, NULL, &hints);
        if (failed) {
            snprintf(address->error, sizeof address->error, "the host %s cannot be resolved: %s",
                     host, uv_strerror(failed));
            address->done(address, false);
            return;
        }
        address->busy = true;
        return;
    }
    finish(address);
}

void lvt_pg_address_resolve(struct lvt_pg_address *address, uv_loop_t *loop,
                            const PQconninfoOption *options,
                            void (*done)(struct lvt_pg_address *address, bool ok)) {
    const char *host = lvt_pg_option(options, "host");
    if (!host)
        host = getenv("PGHOST");
    address->count = 0;
    address->done = done;
    address->error[0] = '\0';
    lvt_buffer_clear(&address->hosts);
    lvt_buffer_clear(&address->addresses);
    lvt_buffer_clear(&address->ports);
    if (!host || !host[0] || lvt_pg_option(options, "hostaddr") || getenv("PGHOSTADDR")) {
        done(address, true);
        return;
    }
    free(address->names);
    address->names = strdup(host);
    address->next_name = address->names;
    address->next_port = lvt_pg_option(options, "port");
    address->request.loop = loop;
    if (!address->names) {
        snprintf(address->error, sizeof address->error, "out of memory");
        done(address, false);
        return;
    }
    advance(address);
}
