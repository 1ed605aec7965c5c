/* The pages of a lane that has no supervisor: the server on the lane's own loop. */
#include "admin/admin.h"

#include <stdlib.h>

#include "admin/private.h"
#include "admin/server.h"

struct lvt_admin {
    struct lvt_admin_source source;
    struct lvt_server *server;
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned handles;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static void asked(void *ctx) {
    struct lvt_admin *admin = ctx;
    struct lvt_snapshot snapshot = {0};
    struct lvt_report report;
    struct lvt_buffer metrics;
    lvt_buffer_init(&metrics, LVT_PAGE_BYTES_MAX);
    admin->source.snapshot(admin->source.ctx, &snapshot);
    lvt_report_make(&snapshot, &metrics, &report);
    lvt_server_report(admin->server, &report);
    lvt_buffer_free(&metrics);
}

/* ---- on the loop ---- */

static void run(struct lvt_admin *admin);

static void timer_due(uv_timer_t *timer) {
    run(timer->data);
}

static void poll_ready(uv_poll_t *poll, int status, int events) {
    (void)status, (void)events;
    run(poll->data);
}

static void run(struct lvt_admin *admin) {
    int64_t timeout_ms = lvt_server_run(admin->server);
    if (timeout_ms >= 0)
        uv_timer_start(&admin->timer, timer_due, (uint64_t)timeout_ms, 0);
    else
        uv_timer_stop(&admin->timer);
}

/* ---- life ---- */

static enum leveret_code watch(struct lvt_admin *admin, uv_loop_t *loop,
                               struct leveret_error *err) {
    if (uv_poll_init(loop, &admin->poll, lvt_server_fd(admin->server)) != 0)
        return leveret_fail(err, LEVERET_SYSTEM, "the pages on %s cannot be watched",
                            lvt_server_address(admin->server));
    uv_timer_init(loop, &admin->timer); /* cannot fail */
    admin->poll.data = admin->timer.data = admin;
    admin->handles = 2;
    uv_poll_start(&admin->poll, UV_READABLE, poll_ready);
    return LEVERET_OK;
}

enum leveret_code lvt_admin_start(const struct lvt_admin_options *options,
                                  struct lvt_admin **ret_admin, struct leveret_error *err) {
    if (options->listen[0] == 0) {
        *ret_admin = NULL;
        return LEVERET_OK;
    }
    struct lvt_admin *admin = calloc(1, sizeof *admin);
    if (!admin)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    const struct lvt_server_options server = {options->listen, admin, asked};
    admin->source = options->source;
    enum leveret_code code = lvt_server_start(&server, &admin->server, err);
    if (code == LEVERET_OK)
        code = watch(admin, options->loop, err);
    if (code != LEVERET_OK) {
        lvt_server_free(admin->server);
        free(admin);
        return code;
    }
    lvt_server_log_address(admin->server, options->log);
    *ret_admin = admin;
    return LEVERET_OK;
}

const char *lvt_admin_address(const struct lvt_admin *admin) {
    return admin ? lvt_server_address(admin->server) : "";
}

static void handle_closed(uv_handle_t *handle) {
    struct lvt_admin *admin = handle->data;
    if (--admin->handles == 0)
        admin->closed(admin->closed_ctx);
}

void lvt_admin_close(struct lvt_admin *admin, void (*closed)(void *ctx), void *ctx) {
    if (!admin) {
        closed(ctx);
        return;
    }
    admin->closed = closed;
    admin->closed_ctx = ctx;
    uv_close((uv_handle_t *)&admin->poll, handle_closed); /* before its descriptor goes */
    uv_close((uv_handle_t *)&admin->timer, handle_closed);
    lvt_server_free(admin->server);
}

void lvt_admin_free(struct lvt_admin *admin) {
    free(admin);
}
