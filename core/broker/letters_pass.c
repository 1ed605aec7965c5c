#include <poll.h>
#include <stdio.h>

#include "base/clock.h"
#include "broker/declare.h"
#include "broker/letters_private.h"

/* How many letters are on their way to us at once: what the broker and we hold of them in memory
 * stays about BYTES_AHEAD. */
#define AHEAD_FIRST 500
#define AHEAD_MIN 20
#define AHEAD_MAX 2000
#define BYTES_AHEAD (UINT64_C(16) << 20)
/* RabbitMQ's own limit of a message; brokers come with less. */
#define BODY_MAX (UINT64_C(512) << 20)
/* Nothing comes: is the queue empty? And when is it too long? */
#define SILENCE_MS 1000
#define SILENCE_MAX_MS 30000
/* How long the broker may take to put letters back. */
#define RETURN_MS 3000
#define RETURN_LOOK_MS 20
#define TAG_SIZE 32

/* ---- a pass ---- */

uint64_t lvt_letters_body_limit(void *ctx, unsigned consumer) {
    (void)ctx;
    (void)consumer;
    return BODY_MAX;
}

static amqp_bytes_t consumer_tag(unsigned number, char tag[TAG_SIZE]) {
    snprintf(tag, TAG_SIZE, "%08u.dlq", number);
    return amqp_cstring_bytes(tag);
}

/* A consumer gets as many letters as it may hold unacked, which must be few for the broker's
 * memory: those that have theirs are left as they are, and the next one gets the next letters. */
static enum leveret_code subscribe(struct lvt_letters *letters, struct leveret_error *err) {
    uint64_t ahead = AHEAD_FIRST;
    if (letters->received > 0) {
        ahead = BYTES_AHEAD / (letters->bytes / letters->received + 1);
        ahead = ahead < AHEAD_MIN ? AHEAD_MIN : ahead > AHEAD_MAX ? AHEAD_MAX : ahead;
    }
    if (ahead > letters->most - letters->received) {
        ahead = letters->most - letters->received;
    }
    char tag[TAG_SIZE];
    amqp_basic_qos_t qos = {.prefetch_count = (uint16_t)ahead};
    amqp_basic_consume_t consume = {.queue = amqp_cstring_bytes(letters->queue),
                                    .consumer_tag = consumer_tag(letters->consumers++, tag)};
    amqp_connection_state_t amqp = letters->taking.amqp;
    letters->asked_for += ahead;
    int status = amqp_send_method(amqp, LVT_CHANNEL, AMQP_BASIC_QOS_METHOD, &qos);
    if (status == AMQP_STATUS_OK) {
        status = amqp_send_method(amqp, LVT_CHANNEL, AMQP_BASIC_CONSUME_METHOD, &consume);
    }
    return status == AMQP_STATUS_OK ? LEVERET_OK : lvt_connection_lost(status, err);
}

enum leveret_code lvt_letters_begin(struct lvt_letters *letters, const char *queue, uint64_t most,
                                    struct leveret_error *err) {
    struct lvt_connection_options options = lvt_letters_connection_options(letters);
    enum leveret_code code = lvt_connection_open(&letters->taking, &options, err);
    if (code != LEVERET_OK) {
        return code;
    }
    lvt_frames_init(&letters->frames, &letters->taking, lvt_letters_body_limit, NULL);
    letters->queue = queue;
    letters->most = most;
    letters->consumers = 0;
    letters->asked_for = letters->received = letters->removed = letters->bytes = 0;
    letters->came_at_ms = letters->looked_at_ms = lvt_now_ms();
    letters->empty = false;
    return LEVERET_OK;
}

static enum leveret_code taking_closed(const struct lvt_letters *letters,
                                       const amqp_method_t *method, struct leveret_error *err) {
    struct leveret_error said;
    int reply = lvt_connection_closed(method, &said);
    bool refused = reply == AMQP_ACCESS_REFUSED || reply == AMQP_RESOURCE_LOCKED;
    return leveret_fail(err, refused ? LEVERET_REFUSED : LEVERET_UNAVAILABLE,
                        "RabbitMQ hands out no letters of \"%s\": %s", letters->queue, said.text);
}

static enum leveret_code take_incoming(struct lvt_letters *letters, struct lvt_incoming *incoming,
                                       struct leveret_error *err) {
    if (incoming->kind == LVT_INCOMING_DELIVERY) {
        if (letters->received == letters->most) {
            lvt_delivery_free(incoming->delivery); /* it took the place of a removed one */
            return LEVERET_OK;
        }
        letters->received++;
        letters->bytes += incoming->body_size;
        letters->came_at_ms = lvt_now_ms();
        *letters->last = incoming->delivery;
        letters->last = &incoming->delivery->next;
        return LEVERET_OK;
    }
    if (incoming->kind == LVT_INCOMING_METHOD) {
        switch (incoming->method.id) {
        case AMQP_CHANNEL_CLOSE_METHOD:
        case AMQP_CONNECTION_CLOSE_METHOD:
            return taking_closed(letters, &incoming->method, err);
        case AMQP_BASIC_CANCEL_METHOD:
            return leveret_fail(err, LEVERET_UNAVAILABLE,
                                "RabbitMQ hands out no more letters of \"%s\": was the queue "
                                "deleted?",
                                letters->queue);
        default:
            break;
        }
    }
    return LEVERET_OK;
}

static enum leveret_code read_letters(struct lvt_letters *letters, struct leveret_error *err) {
    for (;;) {
        struct lvt_incoming *incoming;
        enum leveret_code code = lvt_frames_read(&letters->frames, &incoming, err);
        if (code != LEVERET_OK || !incoming) {
            return code;
        }
        code = take_incoming(letters, incoming, err);
        if (code != LEVERET_OK) {
            return code;
        }
    }
}

/* Letters that may still come are fewer than were asked for when another consumer takes them. */
static enum leveret_code check_silence(struct lvt_letters *letters, struct leveret_error *err) {
    uint64_t now_ms = lvt_now_ms();
    if (now_ms - letters->came_at_ms < SILENCE_MS || now_ms - letters->looked_at_ms < SILENCE_MS) {
        return LEVERET_OK;
    }
    struct lvt_letters_queue queue;
    letters->looked_at_ms = now_ms;
    enum leveret_code code = lvt_letters_count(letters, letters->queue, &queue, err);
    if (code != LEVERET_OK) {
        return code;
    }
    letters->empty = queue.depth == 0;
    if (!letters->empty && now_ms - letters->came_at_ms > SILENCE_MAX_MS) {
        return leveret_fail(err, LEVERET_UNAVAILABLE,
                            "RabbitMQ hands out no letters of \"%s\", though %llu wait in it: has "
                            "it a single active consumer that is another's?",
                            letters->queue, (unsigned long long)queue.depth);
    }
    return LEVERET_OK;
}

enum leveret_code lvt_letters_take(struct lvt_letters *letters, struct leveret_error *err) {
    lvt_connection_enter(&letters->taking);
    enum leveret_code code = read_letters(letters, err);
    uint64_t to_come = letters->asked_for - (letters->received - letters->removed);
    /* An ack lets the next letter come by itself, but one at a time. */
    uint64_t few = letters->removed > 0 ? AHEAD_MIN : 0;
    if (code == LEVERET_OK && !letters->first && to_come <= few && !lvt_letters_over(letters)) {
        code = subscribe(letters, err);
    }
    lvt_connection_leave(&letters->taking);
    if (code == LEVERET_OK && !letters->first && !lvt_letters_over(letters)) {
        code = check_silence(letters, err);
    }
    return code;
}

/* The broker gives back what is unacked when the connection ends, which it does before it says
 * goodbye. */
void lvt_letters_close_pass(struct lvt_letters *letters) {
    if (letters->taking.amqp) {
        lvt_frames_free(&letters->frames);
        lvt_letters_hang_up(letters, &letters->taking);
    }
    while (letters->first) {
        lvt_delivery_free(lvt_letters_next(letters));
    }
    letters->queue = NULL;
}

struct lvt_delivery *lvt_letters_next(struct lvt_letters *letters) {
    struct lvt_delivery *letter = letters->first;
    if (letter) {
        letters->first = letter->next;
        letter->next = NULL;
        if (!letters->first) {
            letters->last = &letters->first;
        }
    }
    return letter;
}

bool lvt_letters_over(const struct lvt_letters *letters) {
    return !letters->first && (letters->empty || letters->received >= letters->most);
}

enum leveret_code lvt_letters_remove(struct lvt_letters *letters, const struct lvt_delivery *letter,
                                     struct leveret_error *err) {
    lvt_connection_enter(&letters->taking);
    int status = amqp_basic_ack(letters->taking.amqp, LVT_CHANNEL, letter->tag, false);
    lvt_connection_leave(&letters->taking);
    letters->removed++;
    return status == AMQP_STATUS_OK ? LEVERET_OK
                                    : lvt_letters_broken(letters, lvt_connection_lost(status, err));
}

/* A channel may hold back acks for a quorum queue that is busy, and forgets them when it is closed.
 * A cancel waits behind those that it has passed on; when it is answered the channel hears that
 * they are done, and passes on the rest, which the two questions make sure of. The first consumer's
 * letters have come, so its beginning was answered: RabbitMQ 3.10 breaks the connection over the
 * cancel of one that has not been. */
static enum leveret_code flush_acks(struct lvt_letters *letters, struct leveret_error *err) {
    char tag[TAG_SIZE];
    struct lvt_refusal refusal;
    uint32_t depth, consumers;
    lvt_connection_enter(&letters->taking);
    amqp_basic_cancel(letters->taking.amqp, LVT_CHANNEL, consumer_tag(0, tag));
    lvt_connection_leave(&letters->taking);
    enum leveret_code code =
        lvt_connection_check(&letters->taking, amqp_get_rpc_reply(letters->taking.amqp), NULL, err);
    for (int i = 0; i < 2 && code == LEVERET_OK; i++) {
        code =
            lvt_look_for_queue(&letters->taking, letters->queue, &depth, &consumers, &refusal, err);
    }
    return code == LEVERET_REFUSED ? LEVERET_OK : code; /* the queue is gone, with all in it */
}

enum leveret_code lvt_letters_end(struct lvt_letters *letters, struct leveret_error *err) {
    const char *queue = letters->queue;
    uint64_t given_back = letters->received - letters->removed;
    uint64_t due_ms = lvt_now_ms() + RETURN_MS;
    struct lvt_letters_queue seen = {0};
    enum leveret_code code = letters->removed > 0 ? flush_acks(letters, err) : LEVERET_OK;
    if (code != LEVERET_OK) {
        return lvt_letters_broken(letters, code);
    }
    lvt_letters_close_pass(letters);
    /* The next command should find them. With another consumer they are gone again at once. */
    while (seen.depth < given_back && lvt_now_ms() < due_ms) {
        code = lvt_letters_count(letters, queue, &seen, err);
        if (code != LEVERET_OK) {
            return lvt_letters_broken(letters, code);
        }
        if (seen.depth >= given_back || seen.consumers > 0 || !seen.exists) {
            break;
        }
        (void)poll(NULL, 0, RETURN_LOOK_MS);
    }
    return LEVERET_OK;
}
