/* Reads what the broker sends, frame by frame, and puts messages together. The library's own
 * readers wait without end, keep whole bodies whatever their size, and stumble over methods that
 * they do not expect. */
#ifndef LEVERET_BROKER_FRAMES_H
#define LEVERET_BROKER_FRAMES_H

#include "broker/connection.h"
#include "event/delivery.h"

enum lvt_incoming_kind {
    LVT_INCOMING_METHOD,    /* any other than the two with content */
    LVT_INCOMING_DELIVERY,  /* a message, whole */
    LVT_INCOMING_DISCARDED, /* a delivery whose body was over the limit: it was read past */
    LVT_INCOMING_RETURN,    /* one of our publishes came back; its body was read past */
};

/* A short string of the protocol, which may have any byte in it; NUL-terminated, for logs. */
struct lvt_short_text {
    size_t len;
    char data[LVT_SHORT_MAX + 1];
};

static inline bool lvt_short_text_is(const struct lvt_short_text *text, struct lvt_bytes bytes) {
    return lvt_bytes_equal(lvt_bytes(text->data, text->len), bytes);
}

struct lvt_incoming {
    enum lvt_incoming_kind kind;
    amqp_method_t method;          /* METHOD: valid until the next read */
    struct lvt_delivery *delivery; /* DELIVERY: the reader's, without queue and epoch */
    /* DELIVERY and DISCARDED */
    uint64_t tag;
    unsigned consumer; /* see lvt_frames_consumer */
    uint64_t body_size;
    struct lvt_short_text message_id; /* DISCARDED and RETURN */
    /* RETURN */
    int reply_code;
    struct lvt_short_text reply_text, exchange, routing_key;
};

/* How large a body this consumer's messages may have. */
typedef uint64_t lvt_frames_limit(void *ctx, unsigned consumer);

struct lvt_frames {
    struct lvt_connection *connection;
    lvt_frames_limit *limit;
    void *ctx;
    enum { LVT_FRAMES_METHOD, LVT_FRAMES_HEADER, LVT_FRAMES_BODY } expected;
    amqp_method_t method;                 /* the one whose content is being read */
    struct lvt_incoming message, control; /* what is handed out: content, and plain methods */
    struct lvt_delivery *delivery;        /* the one that is being put together */
    char *body;                           /* where the rest of it goes; NULL: nowhere */
    uint64_t body_left;
    bool handed_out; /* something, by the last call */
};

void lvt_frames_init(struct lvt_frames *frames, struct lvt_connection *connection,
                     lvt_frames_limit *limit, void *ctx);
/* Gives up a message that is half there. */
void lvt_frames_free(struct lvt_frames *frames);

/* Reads on, without waiting; also sends heartbeats that are due. *ret is valid until the next call,
 * and NULL when there is nothing more for the moment.
 * LEVERET_UNAVAILABLE: the connection is of no more use. */
enum leveret_code lvt_frames_read(struct lvt_frames *frames, struct lvt_incoming **ret,
                                  struct leveret_error *err) LVT_MUST_CHECK;

/* Our consumers' tags begin with a number: this one. */
unsigned lvt_frames_consumer(amqp_bytes_t tag);

#endif
