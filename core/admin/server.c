/* libmicrohttpd, without a thread of its own. A request waits, suspended, until there is a report
 * to answer it with. */
#include "admin/server.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/private.h"

#define CONNECTIONS_MAX 64u
#define IDLE_S 10u
#define REQUEST_BYTES_MAX ((size_t)16384)

struct request {
    struct request *next; /* of those that wait */
    struct lvt_server *server;
    struct MHD_Connection *connection;
    const struct lvt_page_kind *kind;
    struct lvt_page page; /* once it is made */
};

struct lvt_server {
    struct lvt_server_options options;
    char address[LVT_ADDRESS_BYTES];
    struct MHD_Daemon *daemon;
    int fd;
    struct request *asked;   /* the next report is for them */
    struct request *waiting; /* came after it was asked for */
    bool closing;
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
    page->body.data = NULL; /* the response's */
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

static enum MHD_Result wait_for_report(struct request *request) {
    struct lvt_server *server = request->server;
    if (server->closing)
        return MHD_NO;
    MHD_suspend_connection(request->connection);
    request->next = server->waiting;
    server->waiting = request;
    return MHD_YES;
}

/* Called with a request's head first, then for each piece of a body, then at its end; and once more
 * when it is resumed. */
static enum MHD_Result requested(void *ctx, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *upload,
                                 size_t *upload_size, void **state) {
    struct request *request = *state;
    (void)version, (void)upload;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return refuse_method(connection);
    if (!request) {
        *state = request = calloc(1, sizeof *request);
        if (!request)
            return MHD_NO;
        *request = (struct request){.server = ctx, .connection = connection};
        return MHD_YES;
    }
    if (*upload_size > 0)
        return MHD_NO; /* a body is nothing that these pages take */
    if (request->page.status == 0) {
        request->kind = lvt_page_find(url);
        if (request->kind && request->kind->reports)
            return wait_for_report(request);
        lvt_page_make(request->kind, NULL, &request->page);
    }
    return respond(connection, &request->page);
}

static void completed(void *ctx, struct MHD_Connection *connection, void **state,
                      enum MHD_RequestTerminationCode why) {
    struct request *request = *state;
    (void)ctx, (void)connection, (void)why;
    if (request && request->page.body.data)
        lvt_buffer_free(&request->page.body);
    free(request);
    *state = NULL;
}

/* ---- reports ---- */

static void ask(struct lvt_server *server) {
    if (server->asked || !server->waiting)
        return;
    server->asked = server->waiting;
    server->waiting = NULL;
    server->options.asked(server->options.ctx);
}

static void resume_all(struct request **list) {
    while (*list) {
        struct request *request = *list;
        *list = request->next;
        MHD_resume_connection(request->connection); /* which frees nothing before the next run */
    }
}

void lvt_server_report(struct lvt_server *server, const struct lvt_report *report) {
    for (struct request *request = server->asked; request; request = request->next)
        lvt_page_make(request->kind, report, &request->page);
    resume_all(&server->asked);
    MHD_run(server->daemon);
    ask(server);
}

int64_t lvt_server_run(struct lvt_server *server) {
    MHD_UNSIGNED_LONG_LONG timeout_ms;
    MHD_run(server->daemon);
    ask(server);
    if (MHD_get_timeout(server->daemon, &timeout_ms) != MHD_YES)
        return -1;
    return timeout_ms > 0 ? (int64_t)timeout_ms : 1;
}

/* ---- life ---- */

/* Takes the socket over when it succeeds. */
static enum leveret_code serve(struct lvt_server *server, int fd, struct leveret_error *err) {
    server->daemon =
        MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, requested, server,
                         MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, completed, NULL,
                         MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
                         MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                         REQUEST_BYTES_MAX, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    if (!server->daemon) /* which may have closed the socket, or not */
        return leveret_fail(err, LEVERET_SYSTEM, "libmicrohttpd cannot be started on %s",
                            server->address);
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info) {
        MHD_stop_daemon(server->daemon);
        return leveret_fail(err, LEVERET_SYSTEM, "libmicrohttpd cannot be watched on %s",
                            server->address);
    }
    server->fd = info->epoll_fd;
    return LEVERET_OK;
}

enum leveret_code lvt_server_start(const struct lvt_server_options *options,
                                   struct lvt_server **ret_server, struct leveret_error *err) {
    struct lvt_server *server = calloc(1, sizeof *server);
    if (!server)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    server->options = *options;
    int fd;
    enum leveret_code code = lvt_listen(options->listen, &fd, server->address, err);
    if (!code)
        code = serve(server, fd, err);
    if (code) {
        free(server);
        return code;
    }
    *ret_server = server;
    return LEVERET_OK;
}

const char *lvt_server_address(const struct lvt_server *server) {
    return server->address;
}

static bool is_loopback(const char *address) {
    return strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]", 5) == 0;
}

void lvt_server_log_address(const struct lvt_server *server, const struct lvt_log *log) {
    if (is_loopback(server->address))
        lvt_logf(log, LVT_INFO, "metrics on http://%s/metrics", server->address);
    else
        lvt_logf(log, LVT_WARN,
                 "metrics on http://%s/metrics, which asks nobody who they are: other machines may "
                 "read the names and counts of events and queues, unless a firewall keeps them out "
                 "(admin.listen)",
                 server->address);
}

int lvt_server_fd(const struct lvt_server *server) {
    return server->fd;
}

/* Suspended connections must go on before the daemon may stop; these find no page, and are dropped.
 */
void lvt_server_free(struct lvt_server *server) {
    if (!server)
        return;
    server->closing = true;
    resume_all(&server->asked);
    resume_all(&server->waiting);
    MHD_run(server->daemon);
    MHD_stop_daemon(server->daemon);
    free(server);
}
