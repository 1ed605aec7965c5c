#include "broker/dial.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define LOOK_EVERY_MS 100

/* Returns 0 or an errno. */
static int finish_connect(int fd, uint64_t due_ms, const atomic_bool *cancel) {
    struct pollfd pollfd = {.fd = fd, .events = POLLOUT};
    while (poll(&pollfd, 1, LOOK_EVERY_MS) <= 0) {
        if (atomic_load(cancel)) {
            return ECANCELED;
        }
        if (lvt_now_ms() >= due_ms) {
            return ETIMEDOUT;
        }
    }
    int error = 0;
    socklen_t len = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? errno : error;
}

static int connect_to(const struct addrinfo *address, uint64_t due_ms, const atomic_bool *cancel,
                      int *ret_fd) {
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return errno;
    }
    int error = connect(fd, address->ai_addr, address->ai_addrlen) < 0 ? errno : 0;
    if (error == EINPROGRESS) {
        error = finish_connect(fd, due_ms, cancel);
    }
    if (error != 0) {
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

enum leveret_code lvt_dial(const char *host, int port, uint64_t timeout_ms,
                           const atomic_bool *cancel, int *ret_fd, struct leveret_error *err) {
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    struct addrinfo *list = NULL;
    struct addrinfo hint = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int status = getaddrinfo(host, service, &hint, &list);
    if (status != 0) {
        return leveret_fail(err, LEVERET_UNAVAILABLE,
                            "cannot resolve RabbitMQ's host name \"%s\": %s; check rabbitmq.url "
                            "(RABBITMQ_URL)",
                            host, gai_strerror(status));
    }
    uint64_t due_ms = lvt_now_ms() + timeout_ms;
    int error = EHOSTUNREACH;
    for (const struct addrinfo *at = list; at; at = at->ai_next) {
        error = connect_to(at, due_ms, cancel, ret_fd);
        if (error == 0 || error == ECANCELED) {
            break;
        }
    }
    freeaddrinfo(list);
    if (error != 0) {
        return leveret_fail(err, LEVERET_UNAVAILABLE,
                            "cannot reach RabbitMQ at %s:%d: %s; is it running there? "
                            "(rabbitmq.url, RABBITMQ_URL)",
                            host, port, strerror(error));
    }
    return LEVERET_OK;
}

void lvt_dial_tune(int fd, uint64_t user_timeout_ms) {
    int on = 1;
    unsigned timeout_ms = (unsigned)user_timeout_ms;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}
