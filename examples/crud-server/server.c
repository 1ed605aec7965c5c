#include "server.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

#define THREADS 4 /* a request waits for the database on its thread */
#define CONNECTIONS_MAX 256
#define CONNECTION_MEMORY 32768 /* bytes of headers */
#define IDLE_S 15

struct server {
    struct MHD_Daemon *daemon;
    const struct store *store;
    struct events *events;
    atomic_uint active; /* requests under way */
    atomic_bool stopping;
    char url[100];
};

/* One request while its body comes. */
struct call {
    char *body;
    size_t len;
    bool too_big;
};

/* ---- replies ---- */

static void add(struct MHD_Response *response, const char *name, const char *value) {
    if (value && *value)
        MHD_add_response_header(response, name, value);
}

static enum MHD_Result send_reply(struct server *server, struct MHD_Connection *connection,
                                  const struct reply *reply) {
    struct MHD_Response *response = MHD_create_response_from_buffer(
        reply->body ? strlen(reply->body) : 0, reply->body ? reply->body : "",
        reply->body ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (!response) {
        free(reply->body);
        return MHD_NO; /* closes the connection */
    }
    if (reply->body)
        add(response, MHD_HTTP_HEADER_CONTENT_TYPE,
            reply->status < 400 ? "application/json" : "application/problem+json");
    add(response, MHD_HTTP_HEADER_ALLOW, reply->allow);
    add(response, MHD_HTTP_HEADER_LOCATION, reply->location);
    add(response, "Link", reply->link);
    if (atomic_load(&server->stopping))
        add(response, MHD_HTTP_HEADER_CONNECTION, "close");
    enum MHD_Result result = MHD_queue_response(connection, reply->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result refuse_body(struct server *server, struct MHD_Connection *connection) {
    struct reply reply = api_problem(413, "the body is longer than 65536 bytes");
    return send_reply(server, connection, &reply);
}

/* ---- requests ---- */

static enum MHD_Result begin(struct server *server, struct MHD_Connection *connection,
                             void **ret_call) {
    struct call *call = calloc(1, sizeof *call);
    if (!call)
        return MHD_NO;
    atomic_fetch_add(&server->active, 1);
    *ret_call = call;
    const char *said =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    int64_t len;
    /* Answered before the body is sent, where the client waits to hear. */
    if (said && !text_number(said, 0, API_BODY_MAX, &len))
        return refuse_body(server, connection);
    return MHD_YES;
}

static enum MHD_Result collect(struct call *call, const char *data, size_t *len) {
    if (call->too_big || *len > API_BODY_MAX - call->len) {
        call->too_big = true; /* the rest is read and forgotten */
    } else {
        char *body = realloc(call->body, call->len + *len + 1);
        if (!body)
            return MHD_NO;
        memcpy(body + call->len, data, *len);
        call->body = body;
        call->len += *len;
        body[call->len] = '\0';
    }
    *len = 0;
    return MHD_YES;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_len, void **self) {
    struct server *server = ctx;
    struct call *call = *self;
    (void)version;
    if (!call)
        return begin(server, connection, self);
    if (*data_len > 0)
        return collect(call, data, data_len);
    if (call->too_big)
        return refuse_body(server, connection);
    const struct request request = {
        .method = method,
        .path = url,
        .after = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "after"),
        .limit = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "limit"),
        .body = call->body ? call->body : "",
        .body_len = call->len,
    };
    struct reply reply = api_answer(server->store, server->events, &request);
    return send_reply(server, connection, &reply);
}

static void on_completed(void *ctx, struct MHD_Connection *connection, void **self,
                         enum MHD_RequestTerminationCode code) {
    struct server *server = ctx;
    struct call *call = *self;
    (void)connection, (void)code;
    if (!call)
        return;
    free(call->body);
    free(call);
    *self = NULL;
    atomic_fetch_sub(&server->active, 1);
}

/* ---- life ---- */

static struct addrinfo *read_address(const char *listen) {
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    char host[64];
    const char *colon = strrchr(listen, ':');
    int64_t port;
    size_t len = colon ? (size_t)(colon - listen) : 0;
    if (!colon || len == 0 || len >= sizeof host || !text_number(colon + 1, 0, 65535, &port))
        return NULL;
    bool brackets = listen[0] == '[' && listen[len - 1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(brackets ? len - 2 : len), listen + brackets);
    struct addrinfo *address = NULL;
    return getaddrinfo(host, colon + 1, &hints, &address) == 0 ? address : NULL;
}

static void write_url(struct server *server, const char *listen) {
    const union MHD_DaemonInfo *bound =
        MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_BIND_PORT);
    snprintf(server->url, sizeof server->url, "http://%.*s:%u",
             (int)(strrchr(listen, ':') - listen), listen, bound->port);
}

struct server *server_start(const char *listen, const struct store *store, struct events *events,
                            char problem[200]) {
    struct addrinfo *address = read_address(listen);
    if (!address) {
        snprintf(problem, 200, "cannot listen on %.100s: it is not HOST:PORT in numbers", listen);
        return NULL;
    }
    struct server *server = calloc(1, sizeof *server);
    if (!server) {
        snprintf(problem, 200, "out of memory");
        freeaddrinfo(address);
        return NULL;
    }
    server->store = store;
    server->events = events;
    unsigned flags = MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ITC;
    if (address->ai_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    server->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, server, MHD_OPTION_SOCK_ADDR, address->ai_addr,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_THREAD_POOL_SIZE,
        (unsigned)THREADS, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_END);
    freeaddrinfo(address);
    if (!server->daemon) {
        snprintf(problem, 200, "cannot listen on %.100s: is the port taken?", listen);
        free(server);
        return NULL;
    }
    write_url(server, listen);
    return server;
}

const char *server_url(const struct server *server) {
    return server->url;
}

void server_stop(struct server *server, uint64_t wait_ms) {
    atomic_store(&server->stopping, true);
    int listener = MHD_quiesce_daemon(server->daemon);
    for (uint64_t waited_ms = 0; atomic_load(&server->active) > 0 && waited_ms < wait_ms;
         waited_ms += 10)
        usleep(10000);
    MHD_stop_daemon(server->daemon);
    if (listener != MHD_INVALID_SOCKET)
        close(listener);
    free(server);
}
