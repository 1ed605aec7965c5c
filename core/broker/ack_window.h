/* Which deliveries of one channel are out, and which acks are worth sending now.
 *
 * Finished tags below every unfinished one go out as a single ack of all of them. One that is
 * finished above a gap waits a little for the gap to close; when the gap is there too long, or the
 * waiting ones are a good part of their queue's prefetch (one slow handler would then fill the
 * window), they are acked singly. An ack of several never passes unfinished work.
 *
 * While more than half of a queue's window is in hand there is no hurry: acks gather until they are
 * an eighth of it, or have waited a little. A single ack costs a quorum queue as much as one of
 * many. */
#ifndef LEVERET_BROKER_ACK_WINDOW_H
#define LEVERET_BROKER_ACK_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* How long a finished tag may wait above a gap, and how long for others to share its ack. */
#define LVT_ACK_GAP_MS 100
#define LVT_ACK_GATHER_MS 10

struct lvt_ack_queue {
    uint32_t prefetch;
    uint32_t in_hand; /* not acked yet */
    uint32_t waiting; /* those of them that are finished */
    bool crowded;     /* that is over a quarter of the prefetch */
};

struct lvt_ack_entry;

struct lvt_ack_window {
    struct lvt_ack_entry *entries; /* in the order of their tags */
    size_t first, count, size;     /* entries[first .. first + count) are in use */
    size_t waiting;                /* finished, not acked yet */
    uint64_t waiting_since_ms;
    bool crowded; /* some queue has too many waiting */
    struct lvt_ack_queue *queues;
    size_t queue_count;
};

/* Sends one ack; a negative status stops the flush, which returns it. */
typedef int lvt_ack_send(void *ctx, uint64_t tag, bool multiple);

/* An empty window may be zeroed memory. Tells of a queue, by its number, or of its new prefetch,
 * before its first tag. False when out of memory. */
bool lvt_ack_window_queue(struct lvt_ack_window *window, size_t queue,
                          uint32_t prefetch) LVT_MUST_CHECK;
void lvt_ack_window_free(struct lvt_ack_window *window);

/* Tags come in rising order. False when out of memory: the channel is of no more use. */
bool lvt_ack_window_add(struct lvt_ack_window *window, uint64_t tag, size_t queue) LVT_MUST_CHECK;
/* Forgets nothing and sends nothing; a tag that is not out, or finished already, is ignored. */
void lvt_ack_window_finish(struct lvt_ack_window *window, uint64_t tag, uint64_t now_ms);
/* Forgets a tag that is not finished: it has been given back. False when it is not out. */
bool lvt_ack_window_drop(struct lvt_ack_window *window, uint64_t tag);
/* Sends what is due; with `all`, everything that is finished. */
int lvt_ack_window_flush(struct lvt_ack_window *window, uint64_t now_ms, bool all,
                         lvt_ack_send *send, void *ctx);
/* How long flush may wait to be called again; -1 when nothing is waiting. */
int lvt_ack_window_wait_ms(const struct lvt_ack_window *window, uint64_t now_ms);

#endif
