/* What the files of core/lane share. */
#ifndef LEVERET_LANE_STATE_H
#define LEVERET_LANE_STATE_H

#include "admin/admin.h"
#include "broker/broker.h"
#include "cache/cache.h"
#include "engine/engine.h"
#include "http/http.h"
#include "lane/folders.h"
#include "lane/lane.h"
#include "lane/loop.h"
#include "ledger/ledger.h"

enum lvt_lane_stage {
    LVT_LANE_WORKING,
    LVT_LANE_DRAINING, /* consuming no more; what is in flight finishes */
    LVT_LANE_CLOSING,
};

/* To the supervisor. */
struct lvt_lane_line {
    uv_poll_t poll;
    bool open;
    struct lvt_buffer out; /* an answer that is on its way */
    size_t sent;
};

struct lvt_lane {
    struct lvt_lane_options options;
    struct lvt_loop loop;
    struct lvt_engine *engine;
    struct lvt_stats *stats;
    struct lvt_lane_shown shown;
    struct lvt_broker *broker;
    struct lvt_ledger *ledger;
    struct lvt_cache *cache;
    struct lvt_http *http;
    struct lvt_admin *admin;
    struct lvt_reload *reload;
    struct lvt_folders *folders; /* NULL: not watched */
    uv_async_t broker_wake, engine_wake, stop_wake, reload_wake;
    struct lvt_timer counters, watch, deadline, scan_again;
    struct lvt_lane_line line;
    enum lvt_lane_stage stage;
    bool started;
    bool everything_ready;           /* has been logged */
    uint64_t consuming_at_ms;        /* last seen with a live consumer */
    struct lvt_broker_queue *queues; /* as they were when last asked for */
    struct lvt_queue_figures *figures;
    size_t queue_size;            /* room in both */
    unsigned open_ports;          /* that have not said that they are closed */
    struct leveret_error failure; /* code 0: none */
};

/* lane.c */
void lvt_lane_log_counters(struct lvt_lane *lane);

/* reload.c */
/* Keeps the handlers as their files are, from now on. */
enum leveret_code lvt_lane_follow_files(struct lvt_lane *lane,
                                        struct leveret_error *err) LVT_MUST_CHECK;
void lvt_lane_reload_now(struct lvt_lane *lane);
void lvt_lane_stop_following(struct lvt_lane *lane);

/* snapshot.c */
void lvt_lane_snapshot(void *ctx, struct lvt_snapshot *ret_snapshot);
/* The queues as they are now, in lane->queues; how many. */
size_t lvt_lane_queues(struct lvt_lane *lane);
bool lvt_lane_ready(struct lvt_lane *lane, char *reason, size_t size);

/* line.c */
enum leveret_code lvt_lane_line_open(struct lvt_lane *lane,
                                     struct leveret_error *err) LVT_MUST_CHECK;
void lvt_lane_line_close(struct lvt_lane *lane);
/* Shows the supervisor that the loop turns. */
void lvt_lane_beat(struct lvt_lane *lane, bool ready);

/* shutdown.c */
/* Consumes no more, and starts no handler. */
void lvt_lane_drain(struct lvt_lane *lane);
/* Called before each sleep of a draining loop: closes everything once nothing is in flight. */
void lvt_lane_drain_step(struct lvt_lane *lane);
/* Closes all ports; the loop ends when they are. */
void lvt_lane_close(struct lvt_lane *lane);

#endif
