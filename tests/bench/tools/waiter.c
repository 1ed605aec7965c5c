/* An HTTP server whose every answer takes 100 ms, for thousands of connections at once. Prints its
 * port. Ends with SIGTERM. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 100
#define EVENTS 256

/* Answers that are due, in the order in which they are: all wait equally long. */
static struct due {
    int fd;
    int64_t at_ms;
} * queue;
static size_t head, tail, size;

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void answer_due(void) {
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    while (head != tail && queue[head].at_ms <= now_ms()) {
        if (write(queue[head].fd, answer, sizeof answer - 1) < 0)
            close(queue[head].fd);
        head = (head + 1) % size;
    }
}

static void accept_all(int listener, int poll) {
    const int on = 1;
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
    }
}

/* A request is small enough to come in one piece. */
static void take_request(int fd) {
    char request[4096];
    if (read(fd, request, sizeof request) <= 0) {
        close(fd);
        return;
    }
    queue[tail] = (struct due){fd, now_ms() + WAIT_MS};
    tail = (tail + 1) % size;
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    size = 65536;
    queue = calloc(size, sizeof *queue);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    if (!queue || bind(listener, (struct sockaddr *)&address, length) != 0 ||
        listen(listener, 4096) != 0 || epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event) != 0) {
        perror("waiter");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%u\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poll, events, EVENTS, head == tail ? -1 : 1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                accept_all(listener, poll);
            else
                take_request(events[i].data.fd);
        }
        answer_due();
    }
}
