/* Bodies over max_body_bytes of queues that have nowhere to reject to. They are kept whole until
 * the engine has dead-lettered them, but only so many at once; others wait, unread and unacked, and
 * go back to their queue when there is room again. Of one session; the consuming thread's. */
#ifndef LEVERET_BROKER_OVERSIZE_H
#define LEVERET_BROKER_OVERSIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All together. It is RabbitMQ's own limit of one by default. */
#define LVT_OVERSIZE_BYTES_MAX ((uint64_t)128 << 20)
#define LVT_OVERSIZE_COUNT_MAX 32
#define LVT_OVERSIZE_WAITING_MAX 4096

struct lvt_oversize {
    uint64_t bytes;
    struct lvt_oversize_body {
        uint64_t tag, bytes;
    } kept[LVT_OVERSIZE_COUNT_MAX];
    size_t count;
    uint64_t waiting[LVT_OVERSIZE_WAITING_MAX]; /* tags */
    size_t waiting_count;
};

/* How large a body may be to be kept now; 0: none may. */
uint64_t lvt_oversize_room(const struct lvt_oversize *oversize);
/* A body within that room has been kept. */
void lvt_oversize_keep(struct lvt_oversize *oversize, uint64_t tag, uint64_t bytes);
/* The delivery is settled. True: it was one of those that are kept. */
bool lvt_oversize_release(struct lvt_oversize *oversize, uint64_t tag);
/* False when too many wait. */
bool lvt_oversize_wait(struct lvt_oversize *oversize, uint64_t tag);

#endif
