#include "broker/confirms.h"

#include <stdio.h>

#include "base/utf8.h"
#include "broker/amqp_headers.h"
#include "broker/connection.h"

/* Of a name in an answer: of a queue, and of an exchange and a key beside each other. */
#define NAME_SHOWN_MAX 100
#define PART_SHOWN_MAX 60

void lvt_route_of(const struct lvt_publish *publish, struct lvt_route *ret) {
    const struct lvt_destination *to = &publish->destination;
    if (to->kind == LVT_TO_EXCHANGE) {
        ret->exchange = to->name;
        ret->routing_key = to->routing_key;
    } else if (to->kind == LVT_TO_DELAY && lvt_ladder_enter(to->delay_ms, to->name, &ret->entry)) {
        ret->exchange = lvt_bytes_of(ret->entry.exchange);
        ret->routing_key = lvt_bytes_of(ret->entry.routing_key);
    } else {
        ret->exchange = lvt_bytes("", 0);
        ret->routing_key = to->name;
    }
}

void lvt_confirms_reset(struct lvt_confirms *confirms) {
    confirms->first = confirms->next = 1;
    confirms->in_flight = 0;
}

bool lvt_confirms_full(const struct lvt_confirms *confirms) {
    return confirms->next - confirms->first >= confirms->size;
}

static struct lvt_unconfirmed *slot_of(const struct lvt_confirms *confirms, uint64_t sequence) {
    return &confirms->slots[sequence % confirms->size];
}

static void pass_answered(struct lvt_confirms *confirms) {
    while (confirms->first < confirms->next && !slot_of(confirms, confirms->first)->publish) {
        confirms->first++;
    }
}

/* ---- sending ---- */

/* What the protocol cannot carry is refused here: the library would send a broken frame. */
static enum leveret_code prepare(const struct lvt_connection *connection,
                                 const struct lvt_publish *publish, const struct lvt_route *route,
                                 struct lvt_arena *arena, amqp_basic_properties_t *ret,
                                 struct leveret_error *err) {
    if (route->exchange.len > LVT_SHORT_MAX || route->routing_key.len > LVT_SHORT_MAX) {
        return leveret_fail(err, LEVERET_INVALID,
                            "the name of an exchange or queue, or the routing key, has more than "
                            "255 bytes");
    }
    struct lvt_properties properties = publish->properties;
    properties.present |= LVT_HAS_DELIVERY_MODE;
    properties.delivery_mode = AMQP_DELIVERY_PERSISTENT;
    size_t size;
    enum leveret_code code = lvt_properties_to_amqp(&properties, arena, ret, &size, err);
    if (code != LEVERET_OK) {
        return code;
    }
    size_t room = (size_t)amqp_get_frame_max(connection->amqp) - 64;
    if (size > room) {
        return leveret_fail(err, LEVERET_TOO_BIG,
                            "properties and headers take %zu bytes; %zu fit into a frame", size,
                            room);
    }
    return LEVERET_OK;
}

enum leveret_code lvt_confirms_send(struct lvt_confirms *confirms,
                                    struct lvt_connection *connection, struct lvt_publish *publish,
                                    struct leveret_error *err) {
    struct lvt_arena arena;
    struct lvt_route route;
    amqp_basic_properties_t properties;
    struct leveret_error wrong;
    lvt_arena_init(&arena, 2048);
    lvt_route_of(publish, &route);
    enum leveret_code code = prepare(connection, publish, &route, &arena, &properties, &wrong);
    if (code != LEVERET_OK && code != LEVERET_NO_MEMORY) {
        confirms->answer(confirms->ctx, publish, LVT_PUBLISH_REFUSED, wrong.text);
        lvt_arena_free(&arena);
        return LEVERET_OK;
    }
    *slot_of(confirms, confirms->next++) = (struct lvt_unconfirmed){.publish = publish};
    confirms->in_flight++;
    if (code == LEVERET_OK) {
        int status = amqp_basic_publish(connection->amqp, LVT_CHANNEL, lvt_to_amqp(route.exchange),
                                        lvt_to_amqp(route.routing_key), true, false, &properties,
                                        lvt_to_amqp(publish->body));
        code = status == AMQP_STATUS_OK ? LEVERET_OK : lvt_connection_lost(status, err);
    } else {
        *err = wrong;
    }
    lvt_arena_free(&arena);
    return code;
}

/* ---- answers ---- */

static void confirm_one(struct lvt_confirms *confirms, uint64_t sequence, bool taken) {
    struct lvt_unconfirmed *slot = slot_of(confirms, sequence);
    struct lvt_publish *publish = slot->publish;
    if (!publish) {
        return;
    }
    slot->publish = NULL;
    confirms->in_flight--;
    if (!taken) {
        confirms->answer(confirms->ctx, publish, LVT_PUBLISH_REFUSED,
                         "the broker did not take it (basic.nack): is the queue full or without a "
                         "leader?");
    } else if (slot->returned) {
        confirms->answer(confirms->ctx, publish, LVT_PUBLISH_RETURNED, slot->return_text);
    } else {
        confirms->answer(confirms->ctx, publish, LVT_PUBLISH_CONFIRMED, "");
    }
}

static void confirm(struct lvt_confirms *confirms, uint64_t tag, bool multiple, bool taken) {
    uint64_t last = tag < confirms->next ? tag : confirms->next - 1;
    uint64_t sequence = multiple || tag < confirms->first ? confirms->first : tag;
    if (multiple && tag == 0) {
        last = confirms->next - 1;
    }
    for (; sequence <= last; sequence++) {
        confirm_one(confirms, sequence, taken);
    }
    pass_answered(confirms);
}

void lvt_confirms_ack(struct lvt_confirms *confirms, const amqp_basic_ack_t *ack) {
    confirm(confirms, ack->delivery_tag, ack->multiple, true);
}

void lvt_confirms_nack(struct lvt_confirms *confirms, const amqp_basic_nack_t *nack) {
    confirm(confirms, nack->delivery_tag, nack->multiple, false);
}

/* How much of a name has a place among `max` bytes. */
static int shown(struct lvt_bytes name, size_t max) {
    return (int)(name.len < max ? name.len : lvt_utf8_cut(name.data, max));
}

static void note_return(struct lvt_unconfirmed *slot, const struct lvt_route *route,
                        const struct lvt_incoming *incoming) {
    slot->returned = true;
    if (route->exchange.len == 0) {
        snprintf(slot->return_text, sizeof slot->return_text,
                 "no queue took it: there is no queue \"%.*s\"",
                 shown(route->routing_key, NAME_SHOWN_MAX), route->routing_key.data);
    } else if (incoming->reply_code == AMQP_NO_ROUTE) {
        snprintf(slot->return_text, sizeof slot->return_text,
                 "no queue took it: none is bound to the exchange \"%.*s\" with the key \"%.*s\"",
                 shown(route->exchange, PART_SHOWN_MAX), route->exchange.data,
                 shown(route->routing_key, PART_SHOWN_MAX), route->routing_key.data);
    } else {
        snprintf(slot->return_text, sizeof slot->return_text, "no queue took it: %d %.60s",
                 incoming->reply_code, incoming->reply_text.data);
    }
}

void lvt_confirms_return(struct lvt_confirms *confirms, const struct lvt_incoming *incoming) {
    for (uint64_t i = confirms->first; i < confirms->next; i++) {
        struct lvt_unconfirmed *slot = slot_of(confirms, i);
        struct lvt_route route;
        if (!slot->publish) {
            continue;
        }
        lvt_route_of(slot->publish, &route);
        const struct lvt_properties *properties = &slot->publish->properties;
        struct lvt_bytes id =
            properties->present & LVT_HAS_MESSAGE_ID ? properties->message_id : lvt_bytes("", 0);
        if (lvt_short_text_is(&incoming->exchange, route.exchange) &&
            lvt_short_text_is(&incoming->routing_key, route.routing_key) &&
            lvt_short_text_is(&incoming->message_id, id)) {
            note_return(slot, &route, incoming);
        }
    }
}

/* ---- without an answer ---- */

struct lvt_publish *lvt_confirms_take_back(struct lvt_confirms *confirms) {
    pass_answered(confirms);
    if (confirms->first == confirms->next) {
        return NULL;
    }
    struct lvt_unconfirmed *slot = slot_of(confirms, confirms->first);
    struct lvt_publish *publish = slot->publish;
    slot->publish = NULL;
    confirms->in_flight--;
    return publish;
}

bool lvt_confirms_wanted(const struct lvt_confirms *confirms) {
    for (uint64_t i = confirms->first; i < confirms->next; i++) {
        const struct lvt_publish *publish = slot_of(confirms, i)->publish;
        if (publish && !atomic_load(&publish->withdrawn)) {
            return true;
        }
    }
    return false;
}
