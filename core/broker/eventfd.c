#include "broker/eventfd.h"

#include <poll.h>
#include <sys/eventfd.h>

void lvt_eventfd_wake(int fd) {
    eventfd_write(fd, 1); /* fails only when it is full: then it is awake */
}

void lvt_eventfd_wait_with(int fd, int other_fd, int timeout_ms) {
    struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = other_fd, .events = POLLIN}};
    if (poll(fds, 2, timeout_ms) > 0 && fds[0].revents) {
        eventfd_t value;
        eventfd_read(fd, &value);
    }
}

void lvt_eventfd_wait(int fd, int timeout_ms) {
    lvt_eventfd_wait_with(fd, -1, timeout_ms);
}
