#include <poll.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/thread.h"
#include "broker/amqp_headers.h"
#include "broker/declare.h"
#include "broker/letters_private.h"

/* How long what is in flight is waited for when the program is to end. */
#define STOP_MS 10000
/* RabbitMQ 4's limit for a quorum queue that was declared without one. */
#define DEFAULT_LIMIT 20

struct lvt_connection_options lvt_letters_connection_options(const struct lvt_letters *letters) {
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
        struct lvt_connection_options options = lvt_letters_connection_options(letters);
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
    lvt_letters_sender_init(&letters->sender);
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

enum leveret_code lvt_letters_broken(struct lvt_letters *letters, enum leveret_code code) {
    if (code != LEVERET_OK) {
        letters->broken = true;
        lvt_letters_sender_give_up(&letters->sender);
    }
    return code;
}

void lvt_letters_hang_up(const struct lvt_letters *letters, struct lvt_connection *connection) {
    if (letters->broken) {
        lvt_connection_drop(connection);
    } else {
        lvt_connection_close(connection);
    }
}

void lvt_letters_free(struct lvt_letters *letters) {
    if (!letters) {
        return;
    }
    lvt_letters_close_pass(letters);
    if (letters->sender.connection.amqp) {
        lvt_frames_free(&letters->sender.frames);
        lvt_letters_hang_up(letters, &letters->sender.connection);
    }
    if (letters->asking.amqp) {
        lvt_letters_hang_up(letters, &letters->asking);
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

enum leveret_code lvt_letters_count(struct lvt_letters *letters, const char *queue,
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
    struct lvt_letters_queue out = {.exists = false};
    enum leveret_code code = lvt_letters_count(letters, queue, &out, err);
    if (code == LEVERET_OK && out.depth > 0) {
        code = look_for_limit(letters, queue, &out.drops_after, err);
    }
    if (code == LEVERET_OK) {
        *ret = out;
    }
    return lvt_letters_broken(letters, code);
}

/* ---- its work ---- */

/* Nothing is expected there but heartbeats, which must be answered. */
static enum leveret_code tend(struct lvt_connection *connection, struct leveret_error *err) {
    struct lvt_frames frames;
    struct lvt_incoming *incoming;
    lvt_frames_init(&frames, connection, lvt_letters_body_limit, NULL);
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
    if (!atomic_load(letters->options.stop) || letters->sender.confirms.in_flight == 0) {
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
        code = lvt_letters_take(letters, err);
    }
    if (code == LEVERET_OK && letters->sender.connection.amqp) {
        code = lvt_letters_sender_read(&letters->sender, err);
    }
    if (code == LEVERET_OK) {
        code = check_stop(letters, err);
    }
    return lvt_letters_broken(letters, code);
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

/* ---- sending ---- */

enum leveret_code lvt_letters_send(struct lvt_letters *letters, struct lvt_publish *publish,
                                   struct leveret_error *err) {
    if (!letters->sender.connection.amqp) {
        struct lvt_connection_options options = lvt_letters_connection_options(letters);
        enum leveret_code code = lvt_letters_sender_open(&letters->sender, &options, err);
        if (code != LEVERET_OK) {
            lvt_letters_sender_answer(&letters->sender, publish, LVT_PUBLISH_DROPPED, err->text);
            return lvt_letters_broken(letters, code);
        }
    }
    return lvt_letters_broken(letters, lvt_letters_sender_send(&letters->sender, publish, err));
}

bool lvt_letters_can_send(const struct lvt_letters *letters) {
    const struct lvt_letters_sender *sender = &letters->sender;
    return !sender->blocked && !lvt_confirms_full(&sender->confirms);
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
