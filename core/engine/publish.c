/* ctx.publish: straight to the broker, or into the outbox of the run's transaction. */
#include <stdio.h>
#include <stdlib.h>

#include "base/container.h"
#include "base/uuid.h"
#include "engine/effect.h"
#include "engine/state.h"

struct lvt_publishing {
    struct lvt_effect *effect;
    struct lvt_arena arena; /* holds what the other two point to */
    struct lvt_outgoing outgoing;
    struct lvt_publish publish;
};

void lvt_publishing_free(struct lvt_publishing *publishing) {
    if (!publishing)
        return;
    lvt_arena_free(&publishing->arena);
    free(publishing);
}

/* The end of an effect, whose memory lasts until `done` has returned. */
static void answer(struct lvt_effect *effect, enum lvt_answer result, const char *error) {
    struct lvt_publishing *publishing = effect->publishing;
    struct lvt_run *run = effect->run;
    struct lvt_engine *engine = effect->engine;
    lvt_published_done *done = effect->done.published;
    void *done_ctx = effect->ctx;
    effect->publishing = NULL;
    lvt_effect_free(effect);
    if (run) {
        lvt_run_enter(run);
        done(done_ctx, result, publishing->outgoing.id, error);
        lvt_run_leave(engine);
    }
    lvt_publishing_free(publishing);
}

/* ---- straight to the broker ---- */

static void published(struct lvt_engine *engine, struct lvt_publish *publish) {
    struct lvt_effect *effect = LVT_CONTAINER_OF(publish, struct lvt_publishing, publish)->effect;
    lvt_stats_count_published(engine->options.stats, effect->publishing->outgoing.event,
                              publish->result);
    if (publish->result == LVT_PUBLISH_CONFIRMED)
        answer(effect, LVT_ANSWER_OK, NULL);
    else if (publish->result == LVT_PUBLISH_DROPPED && effect->run)
        /* an orphan now, freed at the end */
        lvt_effect_outage(effect->run, LVT_SERVICE_NONE, "RabbitMQ is away");
    else
        answer(effect, LVT_ANSWER_ERROR, publish->reason);
}

static void send_to_broker(struct lvt_effect *effect) {
    struct lvt_engine *engine = effect->engine;
    struct lvt_publish *publish = &effect->publishing->publish;
    publish->answered = published;
    engine->broker.publish(engine->broker.self, publish);
}

/* ---- into the outbox ---- */

static void written(void *ctx, enum lvt_answer result, const struct lvt_rows *rows,
                    const struct lvt_sql_error *error) {
    struct lvt_effect *effect = ctx;
    (void)rows;
    if (result == LVT_ANSWER_OUTAGE)
        lvt_effect_outage(effect->run, LVT_SERVICE_POSTGRES, "PostgreSQL is away");
    else
        answer(effect, result, result == LVT_ANSWER_ERROR ? error->text : NULL);
}

void lvt_publishing_send_in_tx(struct lvt_effect *effect) {
    struct lvt_ledger_port *ledger = &effect->engine->ledger;
    ledger->tx_publish(ledger->self, effect->run->tx, &effect->publishing->outgoing, written,
                       effect);
}

/* ---- what both need ---- */

static void refusal_due(struct lvt_timer *timer) {
    struct lvt_effect *effect = LVT_CONTAINER_OF(timer, struct lvt_effect, timer);
    answer(effect, LVT_ANSWER_ERROR, effect->publishing->publish.reason);
}

/* The answer must not come before the call has returned. */
static void refuse(struct lvt_effect *effect, const char *reason) {
    struct lvt_clock *clock = &effect->engine->clock;
    struct lvt_publish *publish = &effect->publishing->publish;
    snprintf(publish->reason, sizeof publish->reason, "%.*s", (int)sizeof publish->reason - 1,
             reason);
    effect->timer.fire = refusal_due;
    /* Without memory for the timer the run's own ends it. */
    (void)lvt_timer_start(clock->timers, &effect->timer, clock->now_ms(clock->self));
}

static struct lvt_bytes text_header(const struct lvt_headers *headers, const char *name) {
    const struct lvt_header *header = lvt_headers_find(headers, name);
    bool text = header && (header->kind == LVT_HEADER_STRING || header->kind == LVT_HEADER_BYTES);
    return text ? header->value.bytes : lvt_bytes(NULL, 0);
}

/* What the run's own event says of its trace holds for those that it leads to. */
static void add_trace(const struct lvt_run *run, struct lvt_outgoing *outgoing) {
    const struct lvt_headers *headers = &run->event->delivery->properties.headers;
    if (outgoing->traceparent.len > 0)
        return;
    for (size_t i = 0; i < outgoing->header_count; i++)
        if (lvt_bytes_is(outgoing->headers[i].name, "traceparent"))
            return;
    outgoing->traceparent = text_header(headers, "traceparent");
    outgoing->tracestate = text_header(headers, "tracestate");
}

static enum leveret_code prepare(struct lvt_run *run, const struct lvt_outgoing *asked,
                                 struct lvt_publishing *publishing, struct leveret_error *err) {
    struct lvt_engine *engine = run->engine;
    struct lvt_outgoing outgoing = *asked;
    char id[LVT_UUID_SIZE];
    int64_t wall_ms = engine->clock.wall_ms(engine->clock.self);
    if (outgoing.id.len == 0) {
        lvt_uuid7((uint64_t)wall_ms, id);
        outgoing.id = lvt_bytes_of(id);
    }
    /* The relay may be a worker of another configuration. */
    if (!outgoing.exchange.data && outgoing.queue.len == 0 && engine->limits.exchange)
        outgoing.exchange = lvt_bytes_of(engine->limits.exchange);
    add_trace(run, &outgoing);
    enum leveret_code code = lvt_outgoing_check(&outgoing, &engine->limits, err);
    if (code == LEVERET_OK)
        code = lvt_outgoing_copy(&outgoing, &publishing->arena, &publishing->outgoing);
    if (code == LEVERET_OK && !run->tx)
        code = lvt_outgoing_build(&publishing->outgoing, &engine->limits, wall_ms,
                                  &publishing->arena, &publishing->publish);
    return code == LEVERET_NO_MEMORY ? leveret_fail(err, code, "out of memory") : code;
}

void lvt_effect_publish(struct lvt_run *run, const struct lvt_outgoing *outgoing,
                        lvt_published_done *done, void *ctx) {
    struct leveret_error err;
    struct lvt_publishing *publishing = calloc(1, sizeof *publishing);
    struct lvt_effect *effect = publishing ? lvt_effect_new(run, LVT_EFFECT_PUBLISH, ctx, 0) : NULL;
    if (!effect) {
        free(publishing);
        lvt_effect_starve(run);
        return;
    }
    lvt_arena_init(&publishing->arena, outgoing->payload.len * 2 + 1024);
    publishing->effect = effect;
    effect->publishing = publishing;
    effect->done.published = done;
    if (prepare(run, outgoing, publishing, &err) != LEVERET_OK) {
        refuse(effect, err.text);
    } else if (run->tx) {
        effect->kind = LVT_EFFECT_SQL;
        lvt_effect_need_tx(effect);
    } else {
        send_to_broker(effect);
    }
}
