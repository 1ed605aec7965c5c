/* The few things that the broker's threads need of the operating system. */
#ifndef LEVERET_BROKER_THREAD_H
#define LEVERET_BROKER_THREAD_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Of a clock that never goes back. */
uint64_t lvt_now_ms(void);

/* A thread that no signal is delivered to. stack_size 0: the usual one. */
enum leveret_code lvt_thread_start(pthread_t *ret, size_t stack_size, void *(*run)(void *),
                                   void *arg, struct leveret_error *err) LVT_MUST_CHECK;

void lvt_eventfd_wake(int fd);
/* Until it is woken, `other_fd` (-1: none) can be read, or the time is over (-1: never). */
void lvt_eventfd_wait_with(int fd, int other_fd, int timeout_ms);
void lvt_eventfd_wait(int fd, int timeout_ms);

#endif
