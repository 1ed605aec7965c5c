/* Timers on one thread: a heap of deadlines that the owner of a clock runs. */
#ifndef LEVERET_BASE_TIMERS_H
#define LEVERET_BASE_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lvt_timer {
    uint64_t due_ms;
    size_t position; /* in the heap, from 1; 0 when not armed */
    void (*fire)(struct lvt_timer *timer);
};

struct lvt_timers {
    struct lvt_timer **heap;
    size_t count;
    size_t size;
};

void lvt_timers_free(struct lvt_timers *timers); /* timers still armed are forgotten */

/* Arms the timer, or moves it when it is armed already. False when out of memory: not armed. */
bool lvt_timer_start(struct lvt_timers *timers, struct lvt_timer *timer, uint64_t due_ms);
void lvt_timer_stop(struct lvt_timers *timers, struct lvt_timer *timer);

/* Fires all that are due, each disarmed before it is called; a callback may start and stop any. */
void lvt_timers_run(struct lvt_timers *timers, uint64_t now_ms);
/* False when none is armed. */
bool lvt_timers_next(const struct lvt_timers *timers, uint64_t *ret_due_ms);

#endif
