#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/amqp_headers.h"
#include "broker/declare.h"
#include "broker/letters_private.h"
#include "broker/thread.h"

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
/* How long what is in flight is waited for when the program is to end. */
#define STOP_MS 10000
/* RabbitMQ 4's limit for a quorum queue that was declared without one. */
#define DEFAULT_LIMIT 20

struct lvt_letters {
    struct lvt_letters_options options;
    struct lvt_amqp_url url;
    struct lvt_watchdog watchdog;
    struct lvt_connection asking, taking;
    struct lvt_letters_sender sender;
    uint64_t stop_at_ms; /* 0: nobody has asked for it */
    bool broken;         /* a connection of them, so that nobody says goodbye */
    /* the pass */
    const char *queue; /* NULL: none */
    struct lvt_frames frames;
    struct lvt_delivery *first, **last; /* read, and not yet handed out */
    unsigned consumers;
    uint64_t most, asked_for, received, removed, bytes;
    uint64_t came_at_ms, looked_at_ms;
    bool empty; /* somebody else took the rest */
};

static struct lvt_connection_options connection_options(const struct lvt_letters *letters) {
    return (struct lvt_connection_options){.url = &letters->url,
                                           .ca_file = letters->options.ca_file,
                                           .heartbeat_s = letters->options.heartbeat_s,
                                           .name = letters->options.name,
                                           .cancel = letters->options.stop};
}

/* ---- its beginning and end ---- */

struct task {
    void (*work)(void *ctx);
    void *ctx;
};

static void *run_task(void *arg) {
    struct task *task = arg;
    task->work(task->ctx);
    return NULL;
}

enum leveret_code lvt_letters_run(void (*work)(void *ctx), void *ctx, struct leveret_error *err) {
    struct task task = {work, ctx};
    pthread_t thread;
    enum leveret_code code = lvt_thread_start(&thread, LVT_AMQP_STACK, run_task, &task, err);
    if (code == LEVERET_OK) {
        pthread_join(thread, NULL);
    }
    return code;
}

static enum leveret_code start(struct lvt_letters *letters, struct leveret_error *err) {
    enum leveret_code code = lvt_amqp_url_parse(letters->options.url, &letters->url, err);
    if (code == LEVERET_OK) {
        code = lvt_watchdog_start(&letters->watchdog, err);
    }
    if (code == LEVERET_OK) {
        struct lvt_connection_options options = connection_options(letters);
        code = lvt_connection_open(&letters->asking, &options, err);
    }
    return code;
}

enum leveret_code lvt_letters_open(const struct lvt_letters_options *options,
                                   struct lvt_letters **ret, struct leveret_error *err) {
    struct lvt_letters *letters = calloc(1, sizeof *letters);
    if (!letters) {
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    }
    letters->options = *options;
    letters->last = &letters->first;
    letters->sender.answered_last = &letters->sender.answered;
    enum leveret_code code = lvt_watchdog_init(&letters->watchdog, err);
    if (code != LEVERET_OK) {
        free(letters);
        return code;
    }
    letters->asking.watch = &letters->watchdog.watches[0];
    letters->taking.watch = &letters->watchdog.watches[1];
    letters->sender.connection.watch = &letters->watchdog.watches[2];
    code = start(letters, err);
    if (code != LEVERET_OK) {
        lvt_letters_free(letters);
        return code;
    }
    *ret = letters;
    return LEVERET_OK;
}

/* Notes an error on its way out. */
static enum leveret_code broken(struct lvt_letters *letters, enum leveret_code code) {
    if (code != LEVERET_OK) {
        letters->broken = true;
        lvt_letters_sender_give_up(&letters->sender);
    }
    return code;
}

static void hang_up(const struct lvt_letters *letters, struct lvt_connection *connection) {
    if (letters->broken) {
        lvt_connection_drop(connection);
    } else {
        lvt_connection_close(connection);
    }
}

/* The broker gives back what is unacked when the connection ends, which it does before it says
 * goodbye. */
static void close_pass(struct lvt_letters *letters) {
    if (letters->taking.amqp) {
        lvt_frames_free(&letters->frames);
        hang_up(letters, &letters->taking);
    }
    while (letters->first) {
        lvt_delivery_free(lvt_letters_next(letters));
    }
    letters->queue = NULL;
}

void lvt_letters_free(struct lvt_letters *letters) {
    if (!letters) {
        return;
    }
    close_pass(letters);
    if (letters->sender.connection.amqp) {
        lvt_frames_free(&letters->sender.frames);
        hang_up(letters, &letters->sender.connection);
    }
    if (letters->asking.amqp) {
        hang_up(letters, &letters->asking);
    }
    if (letters->watchdog.started) {
        lvt_watchdog_stop(&letters->watchdog);
    }
    lvt_watchdog_free(&letters->watchdog);
    lvt_amqp_url_free(&letters->url);
    free(letters);
}

/* ---- looking ---- */

/* Declared again as leveret declares it, a queue that is there stays as it is, and the broker says
 * what is different about it. */
static enum leveret_code look_for_limit(struct lvt_letters *letters, const char *queue,
                                        uint64_t *ret_limit, struct leveret_error *err) {
    struct lvt_arguments arguments = {0};
    struct lvt_refusal refusal;
    struct lvt_mismatch mismatch;
    lvt_quorum_arguments(&arguments);
    enum leveret_code code = lvt_declare_queue(&letters->asking, queue, &arguments, &refusal, err);
    if (code != LEVERET_OK && code != LEVERET_REFUSED) {
        return code;
    }
    *ret_limit = 0;
    if (code == LEVERET_REFUSED && lvt_mismatch_read(&refusal, &mismatch) &&
        strcmp(mismatch.argument, "x-delivery-limit") == 0) {
        bool none = strcmp(mismatch.found, "none") == 0;
        *ret_limit = strtoull(mismatch.found + strcspn(mismatch.found, "0123456789"), NULL, 10);
        if (none && lvt_connection_server_major(&letters->asking) >= 4) {
            *ret_limit = DEFAULT_LIMIT;
        }
    }
    return LEVERET_OK;
}

static enum leveret_code look(struct lvt_letters *letters, const char *queue,
                              struct lvt_letters_queue *ret, struct leveret_error *err) {
    struct lvt_refusal refusal;
    uint32_t depth = 0, consumers = 0;
    enum leveret_code code =
        lvt_look_for_queue(&letters->asking, queue, &depth, &consumers, &refusal, err);
    if (code == LEVERET_REFUSED && refusal.code != AMQP_NOT_FOUND) {
        return leveret_fail(err, LEVERET_REFUSED,
                            "RabbitMQ does not let us look at the queue \"%s\": %s", queue,
                            refusal.text);
    }
    if (code != LEVERET_OK && code != LEVERET_REFUSED) {
        return code;
    }
    *ret = (struct lvt_letters_queue){
        .exists = code == LEVERET_OK, .depth = depth, .consumers = consumers};
    return LEVERET_OK;
}

enum leveret_code lvt_letters_look(struct lvt_letters *letters, const char *queue,
                                   struct lvt_letters_queue *ret, struct leveret_error *err) {
    struct lvt_letters_queue out;
    enum leveret_code code = look(letters, queue, &out, err);
    if (code == LEVERET_OK && out.depth > 0) {
        code = look_for_limit(letters, queue, &out.drops_after, err);
    }
    if (code == LEVERET_OK) {
        *ret = out;
    }
    return broken(letters, code);
}

/* ---- a pass ---- */

static uint64_t body_limit(void *ctx, unsigned consumer) {
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
    struct lvt_connection_options options = connection_options(letters);
    enum leveret_code code = lvt_connection_open(&letters->taking, &options, err);
    if (code != LEVERET_OK) {
        return code;
    }
    lvt_frames_init(&letters->frames, &letters->taking, body_limit, NULL);
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
    enum leveret_code code = look(letters, letters->queue, &queue, err);
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

static enum leveret_code take(struct lvt_letters *letters, struct leveret_error *err) {
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

/* Nothing is expected there but heartbeats, which must be answered. */
static enum leveret_code tend(struct lvt_connection *connection, struct leveret_error *err) {
    struct lvt_frames frames;
    struct lvt_incoming *incoming;
    lvt_frames_init(&frames, connection, body_limit, NULL);
    lvt_connection_enter(connection);
    enum leveret_code code = lvt_frames_read(&frames, &incoming, err);
    lvt_connection_leave(connection);
    if (code == LEVERET_OK && incoming) {
        code = leveret_fail(err, LEVERET_UNAVAILABLE, "RabbitMQ closed the connection");
    }
    return code;
}

static void wait_for_broker(const struct lvt_letters *letters, int timeout_ms) {
    struct pollfd fds[2];
    nfds_t count = 0;
    amqp_connection_state_t each[] = {letters->taking.amqp, letters->sender.connection.amqp};
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        if (each[i] && (amqp_frames_enqueued(each[i]) || amqp_data_in_buffer(each[i]))) {
            return;
        }
        if (each[i]) {
            fds[count++] = (struct pollfd){.fd = amqp_get_sockfd(each[i]), .events = POLLIN};
        }
    }
    (void)poll(fds, count, timeout_ms);
}

static enum leveret_code check_stop(struct lvt_letters *letters, struct leveret_error *err) {
    if (!atomic_load(letters->options.stop) || letters->sender.in_flight == 0) {
        return LEVERET_OK;
    }
    if (letters->stop_at_ms == 0) {
        letters->stop_at_ms = lvt_now_ms() + STOP_MS;
    }
    return lvt_now_ms() < letters->stop_at_ms
               ? LEVERET_OK
               : leveret_fail(
                     err, LEVERET_UNAVAILABLE, "RabbitMQ has not confirmed the last letters%s",
                     letters->sender.blocked ? ": it takes no messages for the moment" : "");
}

static enum leveret_code read_all(struct lvt_letters *letters, struct leveret_error *err) {
    enum leveret_code code = tend(&letters->asking, err);
    if (code == LEVERET_OK) {
        code = take(letters, err);
    }
    if (code == LEVERET_OK && letters->sender.connection.amqp) {
        code = lvt_letters_sender_read(&letters->sender, err);
    }
    if (code == LEVERET_OK) {
        code = check_stop(letters, err);
    }
    return broken(letters, code);
}

enum leveret_code lvt_letters_work(struct lvt_letters *letters, int timeout_ms,
                                   struct leveret_error *err) {
    uint64_t received = letters->received;
    enum leveret_code code = read_all(letters, err);
    if (code != LEVERET_OK || timeout_ms == 0 || letters->received > received ||
        letters->sender.answered) {
        return code;
    }
    wait_for_broker(letters, timeout_ms);
    return read_all(letters, err);
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
                                    : broken(letters, lvt_connection_lost(status, err));
}

/* A channel may hold back acks for a quorum queue that is busy, and forgets them when it is closed.
 * A cancel waits behind those that it has passed on; when it is answered the channel hears that
 * they are done, and passes on the rest, which the two questions make sure of. */
static enum leveret_code flush_acks(struct lvt_letters *letters, struct leveret_error *err) {
    char tag[TAG_SIZE];
    struct lvt_refusal refusal;
    uint32_t depth, consumers;
    lvt_connection_enter(&letters->taking);
    amqp_basic_cancel(letters->taking.amqp, LVT_CHANNEL, consumer_tag(letters->consumers - 1, tag));
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
        return broken(letters, code);
    }
    close_pass(letters);
    /* The next command should find them. With another consumer they are gone again at once. */
    while (seen.depth < given_back && lvt_now_ms() < due_ms) {
        code = look(letters, queue, &seen, err);
        if (code != LEVERET_OK) {
            return broken(letters, code);
        }
        if (seen.depth >= given_back || seen.consumers > 0 || !seen.exists) {
            break;
        }
        (void)poll(NULL, 0, RETURN_LOOK_MS);
    }
    return LEVERET_OK;
}

/* ---- sending ---- */

enum leveret_code lvt_letters_send(struct lvt_letters *letters, struct lvt_publish *publish,
                                   struct leveret_error *err) {
    if (!letters->sender.connection.amqp) {
        struct lvt_connection_options options = connection_options(letters);
        enum leveret_code code = lvt_letters_sender_open(&letters->sender, &options, err);
        if (code != LEVERET_OK) {
            lvt_letters_sender_answer(&letters->sender, publish, LVT_PUBLISH_DROPPED, err->text);
            return broken(letters, code);
        }
    }
    return broken(letters, lvt_letters_sender_send(&letters->sender, publish, err));
}

bool lvt_letters_can_send(const struct lvt_letters *letters) {
    const struct lvt_letters_sender *sender = &letters->sender;
    return !sender->blocked && sender->next - sender->first < LVT_LETTERS_IN_FLIGHT_MAX;
}

bool lvt_letters_blocked(const struct lvt_letters *letters) {
    return letters->sender.blocked;
}

struct lvt_publish *lvt_letters_answered(struct lvt_letters *letters) {
    struct lvt_letters_sender *sender = &letters->sender;
    struct lvt_publish *publish = sender->answered;
    if (publish) {
        sender->answered = publish->next;
        publish->next = NULL;
        if (!sender->answered) {
            sender->answered_last = &sender->answered;
        }
    }
    return publish;
}
