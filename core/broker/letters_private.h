/* What the parts of core/broker/letters.h share. */
#ifndef LEVERET_BROKER_LETTERS_PRIVATE_H
#define LEVERET_BROKER_LETTERS_PRIVATE_H

#include "broker/confirms.h"
#include "broker/letters.h"
#include "broker/watchdog.h"

/* What sends: letters_send.c. */
struct lvt_letters_sender {
    struct lvt_connection connection;
    struct lvt_frames frames;
    struct lvt_unconfirmed slots[LVT_LETTERS_IN_FLIGHT_MAX];
    struct lvt_confirms confirms;
    bool blocked;
    struct lvt_publish *answered, **answered_last;
};

/* Of one that is all zero. */
void lvt_letters_sender_init(struct lvt_letters_sender *sender);
enum leveret_code lvt_letters_sender_open(struct lvt_letters_sender *sender,
                                          const struct lvt_connection_options *options,
                                          struct leveret_error *err) LVT_MUST_CHECK;
void lvt_letters_sender_answer(struct lvt_letters_sender *sender, struct lvt_publish *publish,
                               enum lvt_publish_result result, const char *reason);
/* Answers all that is in flight. */
void lvt_letters_sender_give_up(struct lvt_letters_sender *sender);
/* Takes what the broker says about what was sent. */
enum leveret_code lvt_letters_sender_read(struct lvt_letters_sender *sender,
                                          struct leveret_error *err) LVT_MUST_CHECK;
enum leveret_code lvt_letters_sender_send(struct lvt_letters_sender *sender,
                                          struct lvt_publish *publish,
                                          struct leveret_error *err) LVT_MUST_CHECK;

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

/* ---- letters.c ---- */

struct lvt_connection_options lvt_letters_connection_options(const struct lvt_letters *letters);
/* Notes an error on its way out. */
enum leveret_code lvt_letters_broken(struct lvt_letters *letters, enum leveret_code code);
void lvt_letters_hang_up(const struct lvt_letters *letters, struct lvt_connection *connection);
/* lvt_letters_look without the limit. */
enum leveret_code lvt_letters_count(struct lvt_letters *letters, const char *queue,
                                    struct lvt_letters_queue *ret,
                                    struct leveret_error *err) LVT_MUST_CHECK;

/* ---- letters_pass.c ---- */

uint64_t lvt_letters_body_limit(void *ctx, unsigned consumer);
/* Reads the letters that have come, and asks for more. */
enum leveret_code lvt_letters_take(struct lvt_letters *letters,
                                   struct leveret_error *err) LVT_MUST_CHECK;
void lvt_letters_close_pass(struct lvt_letters *letters);

#endif
