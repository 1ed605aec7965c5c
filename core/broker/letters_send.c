#include <stdio.h>

#include "broker/letters_private.h"

void lvt_letters_sender_answer(struct lvt_letters_sender *sender, struct lvt_publish *publish,
                               enum lvt_publish_result result, const char *reason) {
    publish->result = result;
    snprintf(publish->reason, sizeof publish->reason, "%.*s", (int)sizeof publish->reason - 1,
             reason);
    publish->next = NULL;
    *sender->answered_last = publish;
    sender->answered_last = &publish->next;
}

static void on_answer(void *ctx, struct lvt_publish *publish, enum lvt_publish_result result,
                      const char *reason) {
    lvt_letters_sender_answer(ctx, publish, result, reason);
}

void lvt_letters_sender_init(struct lvt_letters_sender *sender) {
    sender->answered_last = &sender->answered;
    sender->confirms = (struct lvt_confirms){.slots = sender->slots,
                                             .size = LVT_LETTERS_IN_FLIGHT_MAX,
                                             .answer = on_answer,
                                             .ctx = sender};
}

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
    lvt_confirms_reset(&sender->confirms);
    return LEVERET_OK;
}

/* ---- answers ---- */

void lvt_letters_sender_give_up(struct lvt_letters_sender *sender) {
    struct lvt_publish *publish;
    while ((publish = lvt_confirms_take_back(&sender->confirms))) {
        lvt_letters_sender_answer(sender, publish, LVT_PUBLISH_DROPPED,
                                  "the connection to RabbitMQ broke");
    }
}

static enum leveret_code take_method(struct lvt_letters_sender *sender, const amqp_method_t *method,
                                     struct leveret_error *err) {
    struct leveret_error said;
    switch (method->id) {
    case AMQP_BASIC_ACK_METHOD:
        lvt_confirms_ack(&sender->confirms, method->decoded);
        return LEVERET_OK;
    case AMQP_BASIC_NACK_METHOD:
        lvt_confirms_nack(&sender->confirms, method->decoded);
        return LEVERET_OK;
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
            lvt_confirms_return(&sender->confirms, incoming);
        } else if (incoming->kind == LVT_INCOMING_METHOD) {
            code = take_method(sender, &incoming->method, err);
        }
    }
    lvt_connection_leave(&sender->connection);
    return code;
}

/* ---- sending ---- */

enum leveret_code lvt_letters_sender_send(struct lvt_letters_sender *sender,
                                          struct lvt_publish *publish, struct leveret_error *err) {
    lvt_connection_enter_to_send(&sender->connection, publish->body.len);
    enum leveret_code code =
        lvt_confirms_send(&sender->confirms, &sender->connection, publish, err);
    lvt_connection_leave(&sender->connection);
    return code;
}
