/* The pages over HTTP, without a loop: whoever runs the server watches its descriptor, and tells it
 * how the worker is when it asks. All calls are on one thread. */
#ifndef LEVERET_ADMIN_SERVER_H
#define LEVERET_ADMIN_SERVER_H

#include "admin/admin.h"
#include "base/buffer.h"

/* What the pages are made of. */
struct lvt_report {
    bool live, ready;
    char reason[256]; /* why it is not live or not ready: no secrets, one line */
    uint64_t outcomes[LVT_OUTCOME_COUNT];
    int64_t depth; /* of the work queues, together */
    uint64_t uptime_s;
    struct lvt_bytes metrics; /* in Prometheus's text format */
};

/* `metrics` gets the text that the report then points to; it is failed when out of memory. */
void lvt_report_make(const struct lvt_snapshot *snapshot, struct lvt_buffer *metrics,
                     struct lvt_report *ret_report);

struct lvt_server;

struct lvt_server_options {
    const char *listen; /* as in struct lvt_admin_options, but not "" */
    void *ctx;
    /* Somebody wants a page: lvt_server_report is to be called, now or soon. Called from
     * lvt_server_run, and from lvt_server_report when more have come meanwhile. */
    void (*asked)(void *ctx);
};

/* Listens. LEVERET_CONFIG when the address is wrong, cannot be bound or is in
 * use: the text names it and admin.listen. */
enum leveret_code lvt_server_start(const struct lvt_server_options *options,
                                   struct lvt_server **ret_server,
                                   struct leveret_error *err) LVT_MUST_CHECK;
/* As bound: "127.0.0.1:9464". */
const char *lvt_server_address(const struct lvt_server *server);
void lvt_server_log_address(const struct lvt_server *server, const struct lvt_log *log);

/* Readable when lvt_server_run has something to do. */
int lvt_server_fd(const struct lvt_server *server);
/* Returns how long it may wait for that, in ms; -1: for ever. */
int64_t lvt_server_run(struct lvt_server *server);
/* Answers those who asked before `asked` was called. */
void lvt_server_report(struct lvt_server *server, const struct lvt_report *report);
/* Drops its connections. NULL is fine. */
void lvt_server_free(struct lvt_server *server);

#endif
