/* Threads of our own, in a program that may be somebody else's. */
#ifndef LEVERET_BASE_THREAD_H
#define LEVERET_BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

#include "base/error.h"

/* A thread that takes no signals: they are the program's. Faults of its own still come to it.
 * stack_size 0: the usual one. */
enum leveret_code lvt_thread_start(pthread_t *ret, size_t stack_size, void *(*run)(void *),
                                   void *arg, struct leveret_error *err) LVT_MUST_CHECK;

#endif
