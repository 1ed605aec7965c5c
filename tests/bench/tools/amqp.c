#include "amqp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if __has_include(<rabbitmq-c/tcp_socket.h>)
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp_tcp_socket.h>
#endif

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

void bench_check(int status, const char *what) {
    if (status < 0)
        fail(what, amqp_error_string2(status));
}

void bench_check_reply(amqp_rpc_reply_t reply, const char *what) {
    if (reply.reply_type == AMQP_RESPONSE_NORMAL)
        return;
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
        fail(what, amqp_error_string2(reply.library_error));
    fail(what, "the broker closed the channel or the connection");
}

amqp_connection_state_t bench_connect(const char *url) {
    struct amqp_connection_info info;
    char *copy = strdup(url);
    if (!copy)
        fail("connecting", "out of memory");
    bench_check(amqp_parse_url(copy, &info), "the URL");
    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *socket = connection ? amqp_tcp_socket_new(connection) : NULL;
    if (!socket)
        fail("connecting", "out of memory");
    bench_check(amqp_socket_open(socket, info.host, info.port), "connecting");
    bench_check_reply(amqp_login(connection, info.vhost[0] ? info.vhost : "/", 0, 131072, 0,
                                 AMQP_SASL_METHOD_PLAIN, info.user, info.password),
                      "logging in");
    amqp_channel_open(connection, 1);
    bench_check_reply(amqp_get_rpc_reply(connection), "opening a channel");
    free(copy);
    return connection;
}

void bench_close(amqp_connection_state_t connection) {
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
}

double bench_now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}
