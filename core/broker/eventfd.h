/* How the broker's threads sleep until another one wakes them. */
#ifndef LEVERET_BROKER_EVENTFD_H
#define LEVERET_BROKER_EVENTFD_H

void lvt_eventfd_wake(int fd);
/* Until it is woken, `other_fd` (-1: none) can be read, or the time is over (-1: never). */
void lvt_eventfd_wait_with(int fd, int other_fd, int timeout_ms);
void lvt_eventfd_wait(int fd, int timeout_ms);

#endif
