#include <stdio.h>

#include "broker/amqp_headers.h"
#include "broker/letters_private.h"

static uint64_t no_deliveries(void *ctx, unsigned consumer) {
    (void)ctx;
    (void)consumer;
    return 0;
}

enum leveret_code lvt_letters_sender_open(struct lvt_letters_sender *sender,
                                          const struct lvt_connection_options *options,
                                          struct leveret_error *err) {
    struct lvt_connection *connection = &sender->connection;
    enum leveret_code code = lvt_connection_open(connection, options, err);
    if (code != LEVERET_OK) {
        return code;
    }
    lvt_connection_enter(connection);
    amqp_confirm_select(connection->amqp, LVT_CHANNEL);
    lvt_connection_leave(connection);
    code = lvt_connection_check(connection, amqp_get_rpc_reply(connection->amqp), NULL, err);
    if (code != LEVERET_OK) {
        lvt_connection_drop(connection);
        return code;
    }
    lvt_frames_init(&sender->frames, connection, no_deliveries, NULL);
    sender->first = sender->next = 1;
    return LEVERET_OK;
}

/* ---- answers ---- */

void lvt_letters_sender_answer(struct lvt_letters_sender *sender, struct lvt_publish *publish,
                               enum lvt_publish_result result, const char *reason) {
    publish->result = result;
    snprintf(publish->reason, sizeof publish->reason, "%.*s", (int)sizeof publish->reason - 1,
             reason);
    publish->next = NULL;
    *sender->answered_last = publish;
    sender->answered_last = &publish->next;
}

static struct lvt_letter_slot *slot_of(struct lvt_letters_sender *sender, uint64_t sequence) {
    return &sender->slots[sequence % LVT_LETTERS_IN_FLIGHT_MAX];
}

static void confirm_one(struct lvt_letters_sender *sender, uint64_t sequence, bool taken) {
    struct lvt_letter_slot *slot = slot_of(sender, sequence);
    if (sequence < sender->first || sequence >= sender->next || !slot->publish) {
        return;
    }
    if (!taken) {
        lvt_letters_sender_answer(
            sender, slot->publish, LVT_PUBLISH_REFUSED,
            "the broker did not take it: is the queue full or without a leader?");
    } else if (slot->returned) {
        lvt_letters_sender_answer(sender, slot->publish, LVT_PUBLISH_RETURNED, slot->return_text);
    } else {
        lvt_letters_sender_answer(sender, slot->publish, LVT_PUBLISH_CONFIRMED, "");
    }
    slot->publish = NULL;
    sender->in_flight--;
}

static void confirm(struct lvt_letters_sender *sender, uint64_t sequence, bool multiple,
                    bool taken) {
    for (uint64_t i = multiple ? sender->first : sequence; i <= sequence; i++) {
        confirm_one(sender, i, taken);
    }
    while (sender->first < sender->next && !slot_of(sender, sender->first)->publish) {
        sender->first++;
    }
}

void lvt_letters_sender_give_up(struct lvt_letters_sender *sender) {
    for (uint64_t i = sender->first; i < sender->next; i++) {
        struct lvt_letter_slot *slot = slot_of(sender, i);
        if (slot->publish) {
            lvt_letters_sender_answer(sender, slot->publish, LVT_PUBLISH_DROPPED,
                                      "the connection to RabbitMQ broke");
            slot->publish = NULL;
        }
    }
    sender->first = sender->next;
    sender->in_flight = 0;
}

/* A return names the queue, not the message, and comes before its confirm: all that are on their
 * way to that queue count as returned. One too many stays among the dead letters and may have
 * arrived, too; one too few would be lost. */
static void take_return(struct lvt_letters_sender *sender, const struct lvt_incoming *incoming) {
    for (uint64_t i = sender->first; i < sender->next; i++) {
        struct lvt_letter_slot *slot = slot_of(sender, i);
        if (slot->publish &&
            lvt_short_text_is(&incoming->routing_key, slot->publish->destination.name)) {
            slot->returned = true;
            snprintf(slot->return_text, sizeof slot->return_text, "no queue took it: %d %.60s",
                     incoming->reply_code, incoming->reply_text.data);
        }
    }
}

static enum leveret_code take_method(struct lvt_letters_sender *sender, const amqp_method_t *method,
                                     struct leveret_error *err) {
    struct leveret_error said;
    switch (method->id) {
    case AMQP_BASIC_ACK_METHOD: {
        const amqp_basic_ack_t *ack = method->decoded;
        confirm(sender, ack->delivery_tag, ack->multiple, true);
        return LEVERET_OK;
    }
    case AMQP_BASIC_NACK_METHOD: {
        const amqp_basic_nack_t *nack = method->decoded;
        confirm(sender, nack->delivery_tag, nack->multiple, false);
        return LEVERET_OK;
    }
    case AMQP_CONNECTION_BLOCKED_METHOD:
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        sender->blocked = method->id == AMQP_CONNECTION_BLOCKED_METHOD;
        return LEVERET_OK;
    case AMQP_CHANNEL_CLOSE_METHOD:
    case AMQP_CONNECTION_CLOSE_METHOD:
        lvt_connection_closed(method, &said);
        return leveret_fail(err, LEVERET_UNAVAILABLE, "RabbitMQ closed the connection: %s",
                            said.text);
    default:
        return LEVERET_OK;
    }
}

enum leveret_code lvt_letters_sender_read(struct lvt_letters_sender *sender,
                                          struct leveret_error *err) {
    struct lvt_incoming *incoming = NULL;
    enum leveret_code code = LEVERET_OK;
    lvt_connection_enter(&sender->connection);
    while (code == LEVERET_OK) {
        code = lvt_frames_read(&sender->frames, &incoming, err);
        if (code != LEVERET_OK || !incoming) {
            break;
        }
        if (incoming->kind == LVT_INCOMING_RETURN) {
            take_return(sender, incoming);
        } else if (incoming->kind == LVT_INCOMING_METHOD) {
            code = take_method(sender, &incoming->method, err);
        }
    }
    lvt_connection_leave(&sender->connection);
    return code;
}

/* ---- sending ---- */

/* What the protocol cannot carry is refused here: the library would send a broken frame. */
static enum leveret_code prepare(const struct lvt_letters_sender *sender,
                                 const struct lvt_publish *publish, struct lvt_arena *arena,
                                 amqp_basic_properties_t *ret, struct leveret_error *err) {
    struct lvt_properties properties = publish->properties;
    size_t size, room = (size_t)amqp_get_frame_max(sender->connection.amqp) - 64;
    properties.present |= LVT_HAS_DELIVERY_MODE;
    properties.delivery_mode = AMQP_DELIVERY_PERSISTENT;
    enum leveret_code code = lvt_properties_to_amqp(&properties, arena, ret, &size, err);
    if (code == LEVERET_OK && size > room) {
        code =
            leveret_fail(err, LEVERET_TOO_BIG,
                         "properties and headers take %zu bytes; %zu fit into a frame", size, room);
    }
    if (code == LEVERET_OK && publish->destination.name.len > LVT_SHORT_MAX) {
        code = leveret_fail(err, LEVERET_INVALID, "the queue's name has more than 255 bytes");
    }
    return code;
}

enum leveret_code lvt_letters_sender_send(struct lvt_letters_sender *sender,
                                          struct lvt_publish *publish, struct leveret_error *err) {
    struct lvt_arena arena;
    amqp_basic_properties_t properties;
    struct leveret_error wrong;
    lvt_arena_init(&arena, 2048);
    enum leveret_code code = prepare(sender, publish, &arena, &properties, &wrong);
    if (code == LEVERET_OK) {
        *slot_of(sender, sender->next++) = (struct lvt_letter_slot){.publish = publish};
        sender->in_flight++;
        lvt_connection_enter_to_send(&sender->connection, publish->body.len);
        int status = amqp_basic_publish(sender->connection.amqp, LVT_CHANNEL, amqp_empty_bytes,
                                        lvt_to_amqp(publish->destination.name), true, false,
                                        &properties, lvt_to_amqp(publish->body));
        lvt_connection_leave(&sender->connection);
        code = status == AMQP_STATUS_OK ? LEVERET_OK : lvt_connection_lost(status, err);
    } else if (code == LEVERET_NO_MEMORY) {
        *err = wrong;
        lvt_letters_sender_answer(sender, publish, LVT_PUBLISH_DROPPED, wrong.text);
    } else {
        lvt_letters_sender_answer(sender, publish, LVT_PUBLISH_REFUSED, wrong.text);
        code = LEVERET_OK;
    }
    lvt_arena_free(&arena);
    return code;
}
