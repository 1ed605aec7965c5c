/* The time, in milliseconds. */
#ifndef LEVERET_BASE_CLOCK_H
#define LEVERET_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Of a clock that never goes back, and counts from any moment. */
static inline uint64_t lvt_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Since 1970, UTC. */
static inline int64_t lvt_wall_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#endif
