/* A libuv loop with a clock, the engine's timers, and a pump that runs once before each sleep. */
#ifndef LEVERET_LANE_LOOP_H
#define LEVERET_LANE_LOOP_H

#include <uv.h>

#include "base/error.h"
#include "engine/ports.h"

struct lvt_loop {
    uv_loop_t uv;
    struct lvt_clock clock;
    /* Called with everything that the sockets brought at hand; true to be called again at once. */
    bool (*pump)(void *ctx);
    void *ctx;
    /* the loop's own */
    struct lvt_timers timers;
    uv_prepare_t before_sleep;
    uv_idle_t no_sleep;
    uv_timer_t alarm;
    uint32_t random;
    bool closing;
};

/* The struct must not move afterwards. */
enum leveret_code lvt_loop_init(struct lvt_loop *loop, bool (*pump)(void *ctx), void *ctx,
                                struct leveret_error *err) LVT_MUST_CHECK;
/* Runs until every handle is closed. */
void lvt_loop_run(struct lvt_loop *loop);
/* Closes the loop's own handles: it ends when the others are closed too. */
void lvt_loop_close(struct lvt_loop *loop);
void lvt_loop_free(struct lvt_loop *loop);

#endif
