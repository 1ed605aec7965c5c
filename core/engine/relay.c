/* Events of the outbox go out in the order in which they come, as many at a time as the broker
 * takes. Those with a key wait for the one before: it may be refused, and must not be overtaken. */
#include <stdio.h>

#include "base/container.h"
#include "engine/state.h"

static struct lvt_outbox_row **bucket_of(struct lvt_engine *engine, struct lvt_bytes key) {
    return &engine->relaying[lvt_bytes_hash(key) % LVT_RELAY_BUCKETS];
}

static void give_back(struct lvt_engine *engine, struct lvt_outbox_row *row,
                      enum lvt_outbox_result result, const char *reason) {
    row->result = result;
    snprintf(row->reason, sizeof row->reason, "%.*s", (int)sizeof row->reason - 1, reason);
    engine->ledger.outbox_done(engine->ledger.self, row);
}

static void published(struct lvt_engine *engine, struct lvt_publish *publish);

/* Its key is free. False when it cannot be published, with the result that it has come to. */
static bool start(struct lvt_engine *engine, struct lvt_outbox_row *row,
                  enum lvt_outbox_result *ret_result, struct leveret_error *ret_why) {
    enum leveret_code code = LEVERET_NO_MEMORY;
    ret_why->text[0] = '\0';
    if (row->key.len > 0) {
        struct lvt_outbox_row **bucket = bucket_of(engine, row->key);
        row->bucket_next = *bucket;
        *bucket = row;
    }
    if (!engine->draining)
        code = lvt_outgoing_check(&row->outgoing, &engine->limits, ret_why);
    if (code == LEVERET_OK)
        code = lvt_outgoing_build(&row->outgoing, &engine->limits,
                                  engine->clock.wall_ms(engine->clock.self), row->arena,
                                  &row->publish);
    if (code != LEVERET_OK) {
        *ret_result = code == LEVERET_NO_MEMORY ? LVT_OUTBOX_SKIPPED : LVT_OUTBOX_WRONG;
        return false;
    }
    row->publish.answered = published;
    engine->broker.publish(engine->broker.self, &row->publish);
    return true;
}

static void leave_bucket(struct lvt_engine *engine, struct lvt_outbox_row *row) {
    struct lvt_outbox_row **at = bucket_of(engine, row->key);
    if (row->key.len == 0)
        return;
    while (*at != row)
        at = &(*at)->bucket_next;
    *at = row->bucket_next;
}

/* They were not tried, since the one before them was not sent. */
static void skip_all(struct lvt_engine *engine, struct lvt_outbox_row *list) {
    while (list) {
        struct lvt_outbox_row *next = list->next;
        give_back(engine, list, LVT_OUTBOX_SKIPPED, "");
        list = next;
    }
}

/* It is over for this row: the next of its key goes on. */
static void end(struct lvt_engine *engine, struct lvt_outbox_row *row,
                enum lvt_outbox_result result, const char *reason) {
    struct leveret_error why;
    for (;;) {
        struct lvt_outbox_row *next = row->followers, *last = row->last;
        leave_bucket(engine, row);
        give_back(engine, row, result, reason);
        if (result == LVT_OUTBOX_LATER || result == LVT_OUTBOX_SKIPPED) {
            skip_all(engine, next);
            return;
        }
        if (!next)
            return;
        next->followers = next->next;
        next->last = next == last ? NULL : last;
        if (start(engine, next, &result, &why))
            return;
        row = next;
        reason = why.text;
    }
}

static void published(struct lvt_engine *engine, struct lvt_publish *publish) {
    struct lvt_outbox_row *row = LVT_CONTAINER_OF(publish, struct lvt_outbox_row, publish);
    lvt_stats_count_published(engine->options.stats, row->outgoing.event, publish->result);
    if (publish->result == LVT_PUBLISH_CONFIRMED)
        end(engine, row, LVT_OUTBOX_SENT, "");
    else if (publish->result == LVT_PUBLISH_DROPPED)
        end(engine, row, LVT_OUTBOX_SKIPPED, "");
    else
        end(engine, row, LVT_OUTBOX_LATER, publish->reason);
}

static struct lvt_outbox_row *under_way(struct lvt_engine *engine, struct lvt_bytes key) {
    struct lvt_outbox_row *row = key.len > 0 ? *bucket_of(engine, key) : NULL;
    while (row && !lvt_bytes_equal(row->key, key))
        row = row->bucket_next;
    return row;
}

void lvt_relay_due(void *ctx, struct lvt_outbox_row *list) {
    struct lvt_engine *engine = ctx;
    enum lvt_outbox_result result;
    struct leveret_error why;
    while (list) {
        struct lvt_outbox_row *row = list;
        list = row->next;
        row->next = row->followers = row->last = NULL;
        struct lvt_outbox_row *first = under_way(engine, row->key);
        if (!first) {
            if (!start(engine, row, &result, &why))
                end(engine, row, result, why.text);
            continue;
        }
        if (first->last)
            first->last->next = row;
        else
            first->followers = row;
        first->last = row;
    }
}
