/* Handlers that follow their files while the lane works. */
#include "runtime/reload.h"

#include "base/container.h"
#include "lane/state.h"

/* What was not done for want of memory is tried again after this time. */
#define AGAIN_MS 1000

static uint64_t now_ms(const struct lvt_lane *lane) {
    return lane->loop.clock.now_ms(lane->loop.clock.self);
}

static void scan(struct lvt_lane *lane, bool at_once) {
    struct leveret_error err;
    if (lane->stage != LVT_LANE_WORKING || !lane->reload)
        return;
    uint64_t again_ms = lvt_reload_scan(lane->reload, now_ms(lane), at_once);
    if (lvt_broker_update(lane->broker, &err) != LEVERET_OK) {
        LVT_LOG(lane->options.log, LVT_ERROR, "the queues could not be changed; trying again",
                LVT_STRING("reason", err.text));
        again_ms = now_ms(lane) + AGAIN_MS;
    }
    if (again_ms > 0)
        (void)lvt_timer_start(&lane->loop.timers, &lane->scan_again, again_ms);
}

static void again(struct lvt_timer *timer) {
    scan(LVT_CONTAINER_OF(timer, struct lvt_lane, scan_again), false);
}

static void changed(void *ctx) {
    scan(ctx, false);
}

void lvt_lane_reload_now(struct lvt_lane *lane) {
    if (lane->stage == LVT_LANE_WORKING)
        lvt_log(lane->options.log, LVT_INFO,
                "reload: comparing the handlers with their files; the configuration is read at the "
                "start only",
                NULL, 0);
    scan(lane, true);
    if (lane->options.post)
        atomic_fetch_add(&lane->options.post->box->reloads, 1);
}

enum leveret_code lvt_lane_follow_files(struct lvt_lane *lane, struct leveret_error *err) {
    const struct lvt_reload_options reload = {.config = lane->options.config,
                                              .engine = lane->engine,
                                              .routes = lane->options.routes,
                                              .stats = lane->stats,
                                              .log = lane->options.log};
    const struct lvt_folders_options folders = {.roots = &lane->options.config->handlers,
                                                .loop = &lane->loop,
                                                .log = lane->options.log,
                                                .changed = changed,
                                                .ctx = lane};
    struct leveret_error problem;
    lane->scan_again.fire = again;
    lane->reload = lvt_reload_new(&reload);
    if (!lane->reload)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    if (lvt_folders_watch(&folders, &lane->folders, &problem) != LEVERET_OK)
        LVT_LOG(lane->options.log, LVT_WARN,
                "the folders of handlers are not watched: SIGHUP still reloads them",
                LVT_STRING("reason", problem.text));
    return LEVERET_OK;
}

void lvt_lane_stop_following(struct lvt_lane *lane) {
    lvt_folders_close(lane->folders);
    lane->folders = NULL;
    lvt_timer_stop(&lane->loop.timers, &lane->scan_again);
}
