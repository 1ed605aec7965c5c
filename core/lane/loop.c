#include "lane/loop.h"

#include <string.h>

#include "base/clock.h"

static uint64_t now_ms(void *self) {
    (void)self;
    return lvt_now_ms();
}

static int64_t wall_ms(void *self) {
    (void)self;
    return lvt_wall_ms();
}

/* xorshift32: for jitter, where nobody gains by guessing. */
static uint32_t next_random(void *self) {
    struct lvt_loop *loop = self;
    loop->random ^= loop->random << 13;
    loop->random ^= loop->random >> 17;
    loop->random ^= loop->random << 5;
    return loop->random;
}

static void awake(uv_timer_t *alarm) {
    (void)alarm; /* what is due runs before the next sleep */
}

static void stay_awake(uv_idle_t *idle) {
    (void)idle; /* its being active keeps the loop from sleeping */
}

static void set_alarm(struct lvt_loop *loop) {
    uint64_t due_ms;
    if (!lvt_timers_next(&loop->timers, &due_ms)) {
        uv_timer_stop(&loop->alarm);
        return;
    }
    uint64_t now = now_ms(loop);
    uv_update_time(&loop->uv);
    uv_timer_start(&loop->alarm, awake, due_ms > now ? due_ms - now : 0, 0);
}

static void before_sleep(uv_prepare_t *prepare) {
    struct lvt_loop *loop = prepare->data;
    lvt_timers_run(&loop->timers, now_ms(loop));
    bool more = loop->pump(loop->ctx);
    if (loop->closing)
        return;
    if (more)
        uv_idle_start(&loop->no_sleep, stay_awake);
    else
        uv_idle_stop(&loop->no_sleep);
    set_alarm(loop);
}

enum leveret_code lvt_loop_init(struct lvt_loop *loop, bool (*pump)(void *ctx), void *ctx,
                                struct leveret_error *err) {
    memset(loop, 0, sizeof *loop);
    int status = uv_loop_init(&loop->uv);
    if (status != 0)
        return leveret_fail(err, LEVERET_SYSTEM, "cannot make an event loop: %s",
                            uv_strerror(status));
    loop->pump = pump;
    loop->ctx = ctx;
    if (uv_random(NULL, NULL, &loop->random, sizeof loop->random, 0, NULL) != 0 ||
        loop->random == 0)
        loop->random = (uint32_t)uv_hrtime() | 1;
    loop->clock = (struct lvt_clock){loop, now_ms, wall_ms, next_random, &loop->timers};
    uv_prepare_init(&loop->uv, &loop->before_sleep);
    uv_idle_init(&loop->uv, &loop->no_sleep);
    uv_timer_init(&loop->uv, &loop->alarm);
    loop->before_sleep.data = loop;
    uv_prepare_start(&loop->before_sleep, before_sleep);
    return LEVERET_OK;
}

void lvt_loop_run(struct lvt_loop *loop) {
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void lvt_loop_close(struct lvt_loop *loop) {
    if (loop->closing)
        return;
    loop->closing = true;
    uv_close((uv_handle_t *)&loop->before_sleep, NULL);
    uv_close((uv_handle_t *)&loop->no_sleep, NULL);
    uv_close((uv_handle_t *)&loop->alarm, NULL);
}

void lvt_loop_free(struct lvt_loop *loop) {
    lvt_loop_close(loop);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    uv_loop_close(&loop->uv);
    lvt_timers_free(&loop->timers);
}
