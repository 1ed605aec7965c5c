#include "broker/ack_window.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SIZE 256

enum entry_state { OUT, FINISHED, ACKED };

struct lvt_ack_entry {
    uint64_t tag;
    uint32_t queue;
    uint8_t state; /* enum entry_state */
};

bool lvt_ack_window_queue(struct lvt_ack_window *window, size_t queue, uint32_t prefetch) {
    if (queue >= window->queue_count) {
        struct lvt_ack_queue *queues = realloc(window->queues, (queue + 1) * sizeof *queues);
        if (!queues) {
            return false;
        }
        window->queues = queues;
        while (window->queue_count <= queue) {
            queues[window->queue_count++] = (struct lvt_ack_queue){0};
        }
    }
    window->queues[queue].prefetch = prefetch;
    return true;
}

void lvt_ack_window_free(struct lvt_ack_window *window) {
    free(window->entries);
    free(window->queues);
    *window = (struct lvt_ack_window){0};
}

/* Closes the holes that single acks left, so that a window with one slow tag does not grow with
 * all that has passed it by. */
static void compact(struct lvt_ack_window *window) {
    struct lvt_ack_entry *entries = window->entries;
    size_t kept = 0;
    for (size_t i = window->first; i < window->first + window->count; i++) {
        if (entries[i].state != ACKED) {
            entries[kept++] = entries[i];
        }
    }
    window->first = 0;
    window->count = kept;
}

static bool make_room(struct lvt_ack_window *window) {
    if (window->first + window->count < window->size) {
        return true;
    }
    compact(window);
    if (window->count <= window->size / 2 && window->size > 0) {
        return true;
    }
    size_t size = window->size ? window->size * 2 : FIRST_SIZE;
    struct lvt_ack_entry *entries = realloc(window->entries, size * sizeof *entries);
    if (!entries) {
        return false;
    }
    window->entries = entries;
    window->size = size;
    return true;
}

bool lvt_ack_window_add(struct lvt_ack_window *window, uint64_t tag, size_t queue) {
    if (!make_room(window)) {
        return false;
    }
    window->entries[window->first + window->count++] =
        (struct lvt_ack_entry){.tag = tag, .queue = (uint32_t)queue, .state = OUT};
    window->queues[queue].in_hand++;
    return true;
}

static struct lvt_ack_entry *find(struct lvt_ack_window *window, uint64_t tag) {
    struct lvt_ack_entry *entries = window->entries + window->first;
    size_t low = 0, high = window->count;
    if (high == 0 || tag < entries[0].tag) {
        return NULL;
    }
    /* Tags have few holes, so an entry is seldom far below the place that its tag points to. */
    if (tag - entries[0].tag < high) {
        high = (size_t)(tag - entries[0].tag) + 1;
        if (entries[high - 1].tag == tag) {
            return &entries[high - 1];
        }
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (entries[middle].tag < tag) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < window->count && entries[low].tag == tag ? &entries[low] : NULL;
}

static bool is_crowded(const struct lvt_ack_queue *queue) {
    return queue->waiting * UINT64_C(4) > queue->prefetch;
}

void lvt_ack_window_finish(struct lvt_ack_window *window, uint64_t tag, uint64_t now_ms) {
    struct lvt_ack_entry *entry = find(window, tag);
    if (!entry || entry->state != OUT) {
        return;
    }
    entry->state = FINISHED;
    struct lvt_ack_queue *queue = &window->queues[entry->queue];
    queue->waiting++;
    window->crowded |= is_crowded(queue);
    if (window->waiting++ == 0) {
        window->waiting_since_ms = now_ms;
    }
}

bool lvt_ack_window_drop(struct lvt_ack_window *window, uint64_t tag) {
    struct lvt_ack_entry *entry = find(window, tag);
    if (!entry || entry->state != OUT) {
        return false;
    }
    entry->state = ACKED;
    window->queues[entry->queue].in_hand--;
    return true;
}

static void mark_acked(struct lvt_ack_window *window, struct lvt_ack_entry *entry) {
    if (entry->state == FINISHED) {
        window->queues[entry->queue].in_hand--;
        window->queues[entry->queue].waiting--;
        window->waiting--;
    }
    entry->state = ACKED;
}

/* All that is below the first unfinished tag, in one ack. It has to name a tag that is not acked
 * yet: the broker closes the channel over any other. */
static int flush_prefix(struct lvt_ack_window *window, lvt_ack_send *send, void *ctx) {
    struct lvt_ack_entry *entries = window->entries + window->first;
    size_t done = 0, finished = 0, last = 0;
    while (done < window->count && entries[done].state != OUT) {
        if (entries[done].state == FINISHED) {
            finished++;
            last = done;
        }
        done++;
    }
    if (finished > 0) {
        int status = send(ctx, entries[last].tag, finished > 1);
        if (status < 0) {
            return status;
        }
    }
    for (size_t i = 0; i < done; i++) {
        mark_acked(window, &entries[i]);
    }
    window->first += done;
    window->count -= done;
    return 0;
}

static int flush_singly(struct lvt_ack_window *window, bool all, lvt_ack_send *send, void *ctx) {
    struct lvt_ack_entry *entries = window->entries + window->first;
    for (size_t i = 0; i < window->queue_count; i++) {
        window->queues[i].crowded = is_crowded(&window->queues[i]);
    }
    for (size_t i = 0; i < window->count; i++) {
        if (entries[i].state != FINISHED || !(all || window->queues[entries[i].queue].crowded)) {
            continue;
        }
        int status = send(ctx, entries[i].tag, false);
        if (status < 0) {
            return status;
        }
        mark_acked(window, &entries[i]);
    }
    return 0;
}

static bool is_gathering(const struct lvt_ack_queue *queue) {
    return queue->in_hand * UINT64_C(2) > queue->prefetch &&
           queue->waiting * UINT64_C(8) < queue->prefetch;
}

static bool some_due(const struct lvt_ack_window *window) {
    for (size_t i = 0; i < window->queue_count; i++) {
        if (window->queues[i].waiting > 0 && !is_gathering(&window->queues[i])) {
            return true;
        }
    }
    return false;
}

int lvt_ack_window_flush(struct lvt_ack_window *window, uint64_t now_ms, bool all,
                         lvt_ack_send *send, void *ctx) {
    uint64_t waited_ms = now_ms - window->waiting_since_ms;
    bool old = waited_ms >= LVT_ACK_GAP_MS;
    if (window->waiting == 0 || !(all || waited_ms >= LVT_ACK_GATHER_MS || some_due(window))) {
        return 0;
    }
    int status = flush_prefix(window, send, ctx);
    if (status == 0 && window->waiting > 0 && (all || old || window->crowded)) {
        status = flush_singly(window, all || old, send, ctx);
    }
    window->crowded = false;
    return status;
}

int lvt_ack_window_wait_ms(const struct lvt_ack_window *window, uint64_t now_ms) {
    if (window->waiting == 0) {
        return -1;
    }
    bool above_gap = window->entries[window->first].state == OUT;
    uint64_t due_ms = window->waiting_since_ms + (above_gap ? LVT_ACK_GAP_MS : LVT_ACK_GATHER_MS);
    return now_ms >= due_ms ? 0 : (int)(due_ms - now_ms);
}
