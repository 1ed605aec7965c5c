#include "base/timers.h"

#include <stdlib.h>

#define FIRST_SIZE 64

/* The heap's positions count from 1: the timer at position p is heap[p - 1]. */

static void put(struct lvt_timers *timers, size_t position, struct lvt_timer *timer) {
    timers->heap[position - 1] = timer;
    timer->position = position;
}

/* Moves the timer towards the front until nobody before it is due later. */
static void sift_up(struct lvt_timers *timers, struct lvt_timer *timer) {
    size_t position = timer->position;
    while (position > 1) {
        struct lvt_timer *parent = timers->heap[position / 2 - 1];
        if (parent->due_ms <= timer->due_ms) {
            break;
        }
        put(timers, position, parent);
        position /= 2;
    }
    put(timers, position, timer);
}

static void sift_down(struct lvt_timers *timers, struct lvt_timer *timer) {
    size_t position = timer->position;
    while (position * 2 <= timers->count) {
        struct lvt_timer *child = timers->heap[position * 2 - 1];
        if (position * 2 < timers->count && timers->heap[position * 2]->due_ms < child->due_ms) {
            child = timers->heap[position * 2];
        }
        if (timer->due_ms <= child->due_ms) {
            break;
        }
        size_t next = child->position;
        put(timers, position, child);
        position = next;
    }
    put(timers, position, timer);
}

void lvt_timers_free(struct lvt_timers *timers) {
    if (!timers) {
        return;
    }
    for (size_t i = 0; i < timers->count; i++) {
        timers->heap[i]->position = 0;
    }
    free(timers->heap);
    *timers = (struct lvt_timers){0};
}

static bool reserve(struct lvt_timers *timers) {
    if (timers->count < timers->size) {
        return true;
    }
    size_t size = timers->size ? timers->size * 2 : FIRST_SIZE;
    struct lvt_timer **heap = reallocarray(timers->heap, size, sizeof *heap);
    if (!heap) {
        return false;
    }
    timers->heap = heap;
    timers->size = size;
    return true;
}

bool lvt_timer_start(struct lvt_timers *timers, struct lvt_timer *timer, uint64_t due_ms) {
    if (timer->position == 0) {
        if (!reserve(timers)) {
            return false;
        }
        timer->due_ms = due_ms;
        put(timers, ++timers->count, timer);
        sift_up(timers, timer);
        return true;
    }
    uint64_t before_ms = timer->due_ms;
    timer->due_ms = due_ms;
    if (due_ms < before_ms) {
        sift_up(timers, timer);
    } else {
        sift_down(timers, timer);
    }
    return true;
}

void lvt_timer_stop(struct lvt_timers *timers, struct lvt_timer *timer) {
    size_t position = timer->position;
    if (position == 0) {
        return;
    }
    timer->position = 0;
    struct lvt_timer *last = timers->heap[--timers->count];
    if (last == timer) {
        return;
    }
    put(timers, position, last);
    sift_up(timers, last);
    sift_down(timers, last);
}

void lvt_timers_run(struct lvt_timers *timers, uint64_t now_ms) {
    /* A callback that arms a timer which is due at once must not keep this from returning: what is
     * over the count of now is left to the next run, and lvt_timers_next says that it is due. */
    for (size_t left = timers->count; left > 0 && timers->count > 0; left--) {
        struct lvt_timer *timer = timers->heap[0];
        if (timer->due_ms > now_ms) {
            return;
        }
        lvt_timer_stop(timers, timer);
        timer->fire(timer);
    }
}

bool lvt_timers_next(const struct lvt_timers *timers, uint64_t *ret_due_ms) {
    if (timers->count == 0) {
        return false;
    }
    *ret_due_ms = timers->heap[0]->due_ms;
    return true;
}
