/* How the lane is, for the operator's pages. */
#include <stdio.h>
#include <stdlib.h>

#include "lane/state.h"

/* A worker that has had no live consumer for this long will not heal by itself. */
#define CONSUMER_GRACE_MS 60000

static bool make_room(struct lvt_lane *lane, size_t count) {
    struct lvt_broker_queue *queues = realloc(lane->queues, count * sizeof *queues);
    if (queues)
        lane->queues = queues;
    struct lvt_queue_figures *figures = realloc(lane->figures, count * sizeof *figures);
    if (figures)
        lane->figures = figures;
    if (!queues || !figures)
        return false;
    lane->queue_size = count;
    return true;
}

size_t lvt_lane_queues(struct lvt_lane *lane) {
    size_t count = lvt_broker_queues(lane->broker, lane->queues, lane->queue_size);
    if (count > lane->queue_size && make_room(lane, count))
        count = lvt_broker_queues(lane->broker, lane->queues, lane->queue_size);
    return count < lane->queue_size ? count : lane->queue_size;
}

static bool all_consuming(struct lvt_lane *lane) {
    size_t count = lvt_lane_queues(lane);
    for (size_t i = 0; i < count; i++)
        if (!lane->queues[i].dead_letter && !lane->queues[i].consuming)
            return false;
    return true;
}

bool lvt_lane_ready(struct lvt_lane *lane, char *reason, size_t size) {
    struct lvt_broker_status broker;
    struct lvt_ledger_status ledger;
    struct lvt_cache_status cache;
    lvt_broker_status(lane->broker, &broker);
    lvt_ledger_status(lane->ledger, &ledger);
    lvt_cache_status(lane->cache, &cache);
    bool rabbitmq = broker.consuming_connected && broker.publishing_connected;
    if (lane->stage != LVT_LANE_WORKING)
        snprintf(reason, size, "the worker is shutting down");
    else if (!rabbitmq || !ledger.ready || !cache.connected)
        snprintf(reason, size, "away:%s%s%s", rabbitmq ? "" : " RabbitMQ",
                 ledger.ready ? "" : " PostgreSQL", cache.connected ? "" : " Redis");
    else if (lvt_routes_given(lane->options.routes) == 0)
        snprintf(reason, size, "there is no handler");
    else if (!all_consuming(lane))
        snprintf(reason, size, "not every queue is consumed yet");
    else
        return true;
    return false;
}

static bool is_live(struct lvt_lane *lane) {
    uint64_t now_ms = lane->loop.clock.now_ms(lane->loop.clock.self);
    return lane->stage != LVT_LANE_WORKING || now_ms - lane->consuming_at_ms < CONSUMER_GRACE_MS;
}

void lvt_lane_snapshot(void *ctx, struct lvt_snapshot *ret_snapshot) {
    struct lvt_lane *lane = ctx;
    struct lvt_broker_status broker;
    struct lvt_ledger_status ledger;
    struct lvt_cache_status cache;
    lvt_broker_status(lane->broker, &broker);
    lvt_ledger_status(lane->ledger, &ledger);
    lvt_cache_status(lane->cache, &cache);
    ret_snapshot->stats = lane->stats;
    ret_snapshot->ready = lvt_lane_ready(lane, ret_snapshot->reason, sizeof ret_snapshot->reason);
    ret_snapshot->live = is_live(lane);
    if (!ret_snapshot->live)
        snprintf(ret_snapshot->reason, sizeof ret_snapshot->reason,
                 "no live consumer for over %d s", CONSUMER_GRACE_MS / 1000);
    ret_snapshot->connected[0] = (struct lvt_connection_figures){
        "rabbitmq", broker.consuming_connected && broker.publishing_connected};
    ret_snapshot->connected[1] = (struct lvt_connection_figures){"postgres", ledger.ready};
    ret_snapshot->connected[2] = (struct lvt_connection_figures){"redis", cache.connected};
    ret_snapshot->connected_count = 3;
    ret_snapshot->outbox = (struct lvt_outbox_figures){
        .relaying = ledger.outbox.relaying,
        .pending = ledger.outbox.pending,
        .lag_ms = ledger.outbox.lag_ms,
        .failed = ledger.outbox.failed,
    };
    size_t count = lvt_lane_queues(lane);
    for (size_t i = 0; i < count; i++) {
        const struct lvt_broker_queue *queue = &lane->queues[i];
        lane->figures[i] = (struct lvt_queue_figures){queue->name, queue->dead_letter, queue->depth,
                                                      queue->consumers};
    }
    ret_snapshot->routes = lane->options.routes;
    ret_snapshot->queues = lane->figures;
    ret_snapshot->queue_count = count;
    uint64_t now_ms = lane->loop.clock.now_ms(lane->loop.clock.self);
    ret_snapshot->uptime_s = (now_ms - lane->stats->started_ms) / 1000;
}
