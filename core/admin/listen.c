#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/private.h"

#define BACKLOG 64

/* Splits "host:port", "[host]:port" or ":port". */
static enum leveret_code split(const char *text, char *host, size_t host_size,
                               const char **ret_port, struct leveret_error *err) {
    const char *colon = strrchr(text, ':');
    struct lvt_bytes name = lvt_bytes(text, colon ? (size_t)(colon - text) : 0);
    if (name.len >= 2 && name.data[0] == '[' && name.data[name.len - 1] == ']')
        name = lvt_bytes(name.data + 1, name.len - 2);
    else if (memchr(name.data, ':', name.len))
        colon = NULL; /* a bare IPv6 address: where does the port begin? */
    if (name.len == 0)
        name = LVT_LITERAL("127.0.0.1");
    size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
    if (!colon || digits == 0 || digits > 5 || colon[1 + digits] || name.len >= host_size)
        return leveret_fail(err, LEVERET_CONFIG,
                            "admin.listen: \"%s\" is not an address; expected host:port such as "
                            "127.0.0.1:9464 or [::1]:9464, or \"\" for none",
                            text);
    memcpy(host, name.data, name.len);
    host[name.len] = 0;
    *ret_port = colon + 1;
    return LEVERET_OK;
}

static enum leveret_code cannot(struct leveret_error *err, const char *listen_at,
                                const char *reason) {
    return leveret_fail(err, LEVERET_CONFIG,
                        "cannot serve metrics on %s: %s; choose another address in admin.listen "
                        "(port 0 takes a free one, \"\" none)",
                        listen_at, reason);
}

/* A socket's errno on failure. */
static int open_socket(const struct addrinfo *address, int *ret_fd) {
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    const int on = 1; /* a worker started again need not wait for its old connections' end */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        int error = errno;
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

static bool name_socket(int fd, char ret_address[LVT_ADDRESS_BYTES]) {
    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    char host[LVT_ADDRESS_BYTES], port[8];
    if (getsockname(fd, (struct sockaddr *)&bound, &len) < 0 ||
        getnameinfo((struct sockaddr *)&bound, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return false;
    const char *form = strchr(host, ':') ? "[%s]:%s" : "%s:%s";
    return snprintf(ret_address, LVT_ADDRESS_BYTES, form, host, port) < LVT_ADDRESS_BYTES;
}

enum leveret_code lvt_listen(const char *listen_at, int *ret_fd,
                             char ret_address[LVT_ADDRESS_BYTES], struct leveret_error *err) {
    char host[256];
    const char *port = NULL;
    enum leveret_code code = split(listen_at, host, sizeof host, &port, err);
    if (code)
        return code;
    const struct addrinfo hints = {.ai_flags = AI_NUMERICSERV | AI_PASSIVE,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *addresses;
    int status = getaddrinfo(host, port, &hints, &addresses);
    if (status != 0)
        return cannot(err, listen_at, gai_strerror(status));
    int fd = -1, error = 0;
    for (const struct addrinfo *at = addresses; at && fd < 0; at = at->ai_next)
        error = open_socket(at, &fd);
    freeaddrinfo(addresses);
    if (fd < 0)
        return cannot(err, listen_at, strerror(error));
    if (!name_socket(fd, ret_address)) {
        close(fd);
        return cannot(err, listen_at, "the socket has no name");
    }
    *ret_fd = fd;
    return LEVERET_OK;
}
