/* The pages for those who operate a worker: metrics and health, over HTTP.
 *
 *   /metrics       Prometheus text (version 0.0.4)
 *   /metrics.json  processed, failed, retried, duplicates, queueDepth, uptimeSeconds
 *   /livez         200, or 503 and why the worker should be restarted
 *   /readyz        200, or 503 and which service is away
 *   /              what there is
 *
 * All of it belongs to the loop's thread; a page is made when it is asked for. */
#ifndef LEVERET_ADMIN_ADMIN_H
#define LEVERET_ADMIN_ADMIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "base/log.h"
#include "engine/routes.h"
#include "engine/stats.h"

struct lvt_queue_figures {
    const char *name;
    bool dead_letters; /* not part of /metrics.json's queueDepth */
    int64_t depth;     /* ready messages; -1: not known now, and left out */
    int64_t consumers; /* -1: likewise */
};

struct lvt_connection_figures {
    const char *to; /* "rabbitmq", "postgres", "redis" */
    bool connected;
};

/* Known to one worker at a time. */
struct lvt_outbox_figures {
    bool relaying;   /* this is the one */
    int64_t pending; /* -1: not known, as below */
    int64_t lag_ms;
    int64_t failed;
};

#define LVT_SNAPSHOT_CONNECTIONS 4

/* How the worker is. What it points to stays valid until the page is made. */
struct lvt_snapshot {
    const struct lvt_stats *stats;
    bool live, ready;
    char reason[256]; /* why it is not live or not ready: no secrets, one line */
    struct lvt_connection_figures connected[LVT_SNAPSHOT_CONNECTIONS];
    size_t connected_count;
    const struct lvt_queue_figures *queues;
    size_t queue_count;
    const struct lvt_routes *routes; /* NULL: none are told of */
    struct lvt_outbox_figures outbox;
    uint64_t uptime_s;
};

struct lvt_admin_source {
    void *ctx;
    /* Fills in *ret_snapshot, which is zeroed before. */
    void (*snapshot)(void *ctx, struct lvt_snapshot *ret_snapshot);
};

struct lvt_admin_options {
    /* "127.0.0.1:9464", "[::1]:9464", "0.0.0.0:9464" for all addresses; ":9464" is loopback. Port 0
     * chooses a free one. "" for no pages. A name is looked up, and the start waits for that. */
    const char *listen;
    uv_loop_t *loop;
    const struct lvt_log *log; /* outlives the pages */
    struct lvt_admin_source source;
};

struct lvt_admin;

/* Listens and serves, and logs the address. With listen "" it succeeds, and *ret_admin is NULL,
 * which the functions below take. LEVERET_CONFIG when the address is wrong, cannot be bound or is
 * in use: the text names it and admin.listen. */
enum leveret_code lvt_admin_start(const struct lvt_admin_options *options,
                                  struct lvt_admin **ret_admin,
                                  struct leveret_error *err) LVT_MUST_CHECK;

/* As bound: "127.0.0.1:9464". "" for NULL. */
const char *lvt_admin_address(const struct lvt_admin *admin);

/* Drops its connections, and calls closed from the loop (at once when admin is NULL); then it may
 * be freed. */
void lvt_admin_close(struct lvt_admin *admin, void (*closed)(void *ctx), void *ctx);
void lvt_admin_free(struct lvt_admin *admin);

/* Its client library and version, such as "libmicrohttpd 0.9.75, cJSON 1.7.15". Static storage. */
const char *lvt_admin_library(void);

#endif
