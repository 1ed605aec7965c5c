/* libmicrohttpd, without a thread of its own: its epoll descriptor and its timeout are on the loop.
 */
#include "admin/admin.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/private.h"

#define CONNECTIONS_MAX 64u
#define IDLE_S 10u
#define REQUEST_BYTES_MAX ((size_t)16384)

struct lvt_admin {
    uv_loop_t *loop;
    struct lvt_admin_source source;
    char address[LVT_ADDRESS_BYTES];
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned handles;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* ---- requests ---- */

static enum MHD_Result respond(struct MHD_Connection *connection, struct lvt_page *page) {
    if (page->body.failed || !page->body.data) {
        lvt_buffer_free(&page->body);
        return MHD_NO; /* drops the connection */
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(page->body.len, page->body.data, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        lvt_buffer_free(&page->body);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, page->content_type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (page->status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result result = MHD_queue_response(connection, page->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result refuse_method(struct MHD_Connection *connection) {
    struct lvt_page page = {.status = MHD_HTTP_METHOD_NOT_ALLOWED,
                            .content_type = "text/plain; charset=utf-8"};
    lvt_buffer_init(&page.body, 256);
    lvt_buffer_text(&page.body, "only GET and HEAD\n");
    return respond(connection, &page);
}

/* Called with a request's head first, then for each piece of a body, then at its end. */
static enum MHD_Result requested(void *ctx, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *upload,
                                 size_t *upload_size, void **state) {
    static const char begun;
    struct lvt_admin *admin = ctx;
    (void)version, (void)upload;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return refuse_method(connection);
    if (!*state) {
        *state = (void *)(uintptr_t)&begun;
        return MHD_YES;
    }
    if (*upload_size > 0)
        return MHD_NO; /* a body is nothing that these pages take */
    struct lvt_page page;
    lvt_page_make(&admin->source, url, &page);
    return respond(connection, &page);
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
    MHD_UNSIGNED_LONG_LONG timeout_ms;
    MHD_run(admin->daemon);
    if (MHD_get_timeout(admin->daemon, &timeout_ms) == MHD_YES)
        uv_timer_start(&admin->timer, timer_due, timeout_ms > 0 ? timeout_ms : 1, 0);
    else
        uv_timer_stop(&admin->timer);
}

/* ---- life ---- */

/* Takes the socket over when it succeeds. */
static enum leveret_code serve(struct lvt_admin *admin, int fd, struct leveret_error *err) {
    admin->daemon =
        MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, requested, admin, MHD_OPTION_LISTEN_SOCKET,
                         fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
                         MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                         REQUEST_BYTES_MAX, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    if (!admin->daemon) /* which may have closed the socket, or not */
        return leveret_fail(err, LEVERET_SYSTEM, "libmicrohttpd cannot be started on %s",
                            admin->address);
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(admin->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info || uv_poll_init(admin->loop, &admin->poll, info->epoll_fd) != 0) {
        MHD_stop_daemon(admin->daemon);
        return leveret_fail(err, LEVERET_SYSTEM, "libmicrohttpd cannot be watched on %s",
                            admin->address);
    }
    uv_timer_init(admin->loop, &admin->timer); /* cannot fail */
    admin->poll.data = admin->timer.data = admin;
    admin->handles = 2;
    uv_poll_start(&admin->poll, UV_READABLE, poll_ready);
    return LEVERET_OK;
}

static bool is_loopback(const char *address) {
    return strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]", 5) == 0;
}

static void announce(const struct lvt_log *log, const char *address) {
    if (is_loopback(address))
        lvt_logf(log, LVT_INFO, "metrics on http://%s/metrics", address);
    else
        lvt_logf(log, LVT_WARN,
                 "metrics on http://%s/metrics, which asks nobody who they are: other machines may "
                 "read the names and counts of events and queues, unless a firewall keeps them out "
                 "(admin.listen)",
                 address);
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
    admin->loop = options->loop;
    admin->source = options->source;
    int fd;
    enum leveret_code code = lvt_listen(options->listen, &fd, admin->address, err);
    if (!code)
        code = serve(admin, fd, err);
    if (code) {
        free(admin);
        return code;
    }
    announce(options->log, admin->address);
    *ret_admin = admin;
    return LEVERET_OK;
}

const char *lvt_admin_address(const struct lvt_admin *admin) {
    return admin ? admin->address : "";
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
    MHD_stop_daemon(admin->daemon);
}

void lvt_admin_free(struct lvt_admin *admin) {
    free(admin);
}
