#include "broker/frames.h"

#include <stdlib.h>

#include "broker/amqp_headers.h"

void lvt_frames_init(struct lvt_frames *frames, struct lvt_connection *connection,
                     lvt_frames_limit *limit, void *ctx) {
    *frames = (struct lvt_frames){.connection = connection, .limit = limit, .ctx = ctx};
}

void lvt_frames_free(struct lvt_frames *frames) {
    lvt_delivery_free(frames->delivery);
    frames->delivery = NULL;
}

static void copy_text(struct lvt_short_text *out, amqp_bytes_t in) {
    out->len = in.len < LVT_SHORT_MAX ? in.len : LVT_SHORT_MAX;
    if (out->len > 0) {
        memcpy(out->data, in.bytes, out->len);
    }
    out->data[out->len] = '\0';
}

static enum leveret_code bad_frame(struct leveret_error *err) {
    return leveret_fail(err, LEVERET_UNAVAILABLE,
                        "RabbitMQ sent a frame that does not belong there");
}

static enum leveret_code out_of_memory(struct leveret_error *err) {
    return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for a message");
}

static bool is_content(amqp_method_number_t id) {
    return id == AMQP_BASIC_DELIVER_METHOD || id == AMQP_BASIC_RETURN_METHOD;
}

unsigned lvt_frames_consumer(amqp_bytes_t tag) {
    unsigned number = 0;
    const char *text = tag.bytes;
    for (size_t i = 0; i < tag.len && text[i] >= '0' && text[i] <= '9'; i++) {
        number = number * 10 + (unsigned)(text[i] - '0');
    }
    return number;
}

/* ---- the header frame ---- */

static enum leveret_code begin_delivery(struct lvt_frames *frames, const amqp_frame_t *frame,
                                        struct leveret_error *err) {
    const amqp_basic_deliver_t *deliver = frames->method.decoded;
    const amqp_basic_properties_t *properties = frame->payload.properties.decoded;
    struct lvt_bytes raw = lvt_from_amqp(frame->payload.properties.raw);
    struct lvt_incoming *incoming = &frames->message;
    incoming->tag = deliver->delivery_tag;
    incoming->consumer = lvt_frames_consumer(deliver->consumer_tag);
    incoming->body_size = frames->body_left;
    if (frames->body_left > frames->limit(frames->ctx, incoming->consumer)) {
        incoming->kind = LVT_INCOMING_DISCARDED;
        copy_text(&incoming->message_id, properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG
                                             ? properties->message_id
                                             : amqp_empty_bytes);
        return LEVERET_OK;
    }
    /* Room for the texts and the body, a few headers, and what the arena adds to each. */
    size_t size = frames->body_left + raw.len + deliver->exchange.len + deliver->routing_key.len;
    struct lvt_delivery *delivery = lvt_delivery_new(size + 1024);
    if (!delivery) {
        return out_of_memory(err);
    }
    incoming->kind = LVT_INCOMING_DELIVERY;
    frames->delivery = delivery;
    delivery->tag = deliver->delivery_tag;
    delivery->redelivered = deliver->redelivered != 0;
    delivery->exchange = lvt_arena_copy(&delivery->arena, lvt_from_amqp(deliver->exchange));
    delivery->routing_key = lvt_arena_copy(&delivery->arena, lvt_from_amqp(deliver->routing_key));
    frames->body = lvt_arena_alloc(&delivery->arena, frames->body_left + 1);
    if (!delivery->exchange.data || !delivery->routing_key.data || !frames->body ||
        !lvt_properties_from_amqp(properties, raw, &delivery->arena, &delivery->properties)) {
        return out_of_memory(err);
    }
    frames->body[frames->body_left] = '\0';
    delivery->body = lvt_bytes(frames->body, frames->body_left);
    return LEVERET_OK;
}

static void begin_return(struct lvt_frames *frames, const amqp_frame_t *frame) {
    const amqp_basic_return_t *return_ = frames->method.decoded;
    const amqp_basic_properties_t *properties = frame->payload.properties.decoded;
    struct lvt_incoming *incoming = &frames->message;
    incoming->kind = LVT_INCOMING_RETURN;
    incoming->reply_code = return_->reply_code;
    copy_text(&incoming->reply_text, return_->reply_text);
    copy_text(&incoming->exchange, return_->exchange);
    copy_text(&incoming->routing_key, return_->routing_key);
    copy_text(&incoming->message_id, properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG
                                         ? properties->message_id
                                         : amqp_empty_bytes);
}

/* ---- frames ---- */

/* Each sets *ret when something can be handed out. */

/* The last frame of a message has been read. */
static void finish_message(struct lvt_frames *frames, struct lvt_incoming **ret) {
    frames->expected = LVT_FRAMES_METHOD;
    frames->message.delivery = frames->delivery;
    frames->delivery = NULL;
    *ret = &frames->message;
}

static void take_method(struct lvt_frames *frames, const amqp_frame_t *frame,
                        struct lvt_incoming **ret) {
    frames->control.kind = LVT_INCOMING_METHOD;
    frames->control.method = frame->payload.method;
    *ret = &frames->control;
}

static enum leveret_code take_header(struct lvt_frames *frames, const amqp_frame_t *frame,
                                     struct lvt_incoming **ret, struct leveret_error *err) {
    if (frame->frame_type != AMQP_FRAME_HEADER ||
        frame->payload.properties.class_id != AMQP_BASIC_CLASS) {
        return bad_frame(err);
    }
    frames->body_left = frame->payload.properties.body_size;
    frames->body = NULL;
    if (frames->method.id == AMQP_BASIC_DELIVER_METHOD) {
        enum leveret_code code = begin_delivery(frames, frame, err);
        if (code != LEVERET_OK) {
            return code;
        }
    } else {
        begin_return(frames, frame);
    }
    frames->expected = LVT_FRAMES_BODY;
    if (frames->body_left == 0) {
        finish_message(frames, ret);
    }
    return LEVERET_OK;
}

static enum leveret_code take_body(struct lvt_frames *frames, const amqp_frame_t *frame,
                                   struct lvt_incoming **ret, struct leveret_error *err) {
    amqp_bytes_t part = frame->payload.body_fragment;
    if (frame->frame_type != AMQP_FRAME_BODY || part.len > frames->body_left) {
        return bad_frame(err);
    }
    if (frames->body && part.len > 0) {
        memcpy(frames->body, part.bytes, part.len);
        frames->body += part.len;
    }
    frames->body_left -= part.len;
    frames->expected = LVT_FRAMES_BODY;
    if (frames->body_left == 0) {
        finish_message(frames, ret);
    }
    return LEVERET_OK;
}

static enum leveret_code take_frame(struct lvt_frames *frames, const amqp_frame_t *frame,
                                    struct lvt_incoming **ret, struct leveret_error *err) {
    if (frame->frame_type == AMQP_FRAME_HEARTBEAT) {
        return LEVERET_OK;
    }
    /* Methods of the connection itself may come between the frames of a message. */
    if (frame->channel == 0 && frame->frame_type == AMQP_FRAME_METHOD) {
        take_method(frames, frame, ret);
        return LEVERET_OK;
    }
    switch (frames->expected) {
    case LVT_FRAMES_HEADER:
        return take_header(frames, frame, ret, err);
    case LVT_FRAMES_BODY:
        return take_body(frames, frame, ret, err);
    case LVT_FRAMES_METHOD:
        break;
    }
    if (frame->frame_type != AMQP_FRAME_METHOD) {
        return bad_frame(err);
    }
    if (is_content(frame->payload.method.id)) {
        frames->method = frame->payload.method; /* lives on until its header has been read */
        frames->expected = LVT_FRAMES_HEADER;
        return LEVERET_OK;
    }
    take_method(frames, frame, ret);
    return LEVERET_OK;
}

/* One read takes as much as the library has room for. Where it has been used up, another would most
 * likely find nothing, for the price of a read and a poll; what has come meanwhile ends the
 * caller's wait at once. Not with TLS, which reads record by record. */
static bool used_up(const struct lvt_frames *frames) {
    amqp_connection_state_t amqp = frames->connection->amqp;
    return !frames->connection->tls && !amqp_frames_enqueued(amqp) && !amqp_data_in_buffer(amqp);
}

enum leveret_code lvt_frames_read(struct lvt_frames *frames, struct lvt_incoming **ret,
                                  struct leveret_error *err) {
    static const struct timeval at_once = {0, 0};
    amqp_connection_state_t amqp = frames->connection->amqp;
    bool next = frames->handed_out;
    *ret = NULL;
    frames->handed_out = false;
    if (next && used_up(frames)) {
        return LEVERET_OK;
    }
    while (!*ret) {
        if (frames->expected != LVT_FRAMES_HEADER) {
            amqp_maybe_release_buffers(amqp);
        }
        amqp_frame_t frame;
        int status = amqp_simple_wait_frame_noblock(amqp, &frame, &at_once);
        if (status == AMQP_STATUS_TIMEOUT) {
            return LEVERET_OK;
        }
        if (status != AMQP_STATUS_OK) {
            return lvt_connection_lost(status, err);
        }
        enum leveret_code code = take_frame(frames, &frame, ret, err);
        if (code != LEVERET_OK) {
            return code;
        }
    }
    frames->handed_out = true;
    return LEVERET_OK;
}
