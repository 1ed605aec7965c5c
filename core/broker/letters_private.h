/* What the two halves of core/broker/letters.h share. */
#ifndef LEVERET_BROKER_LETTERS_PRIVATE_H
#define LEVERET_BROKER_LETTERS_PRIVATE_H

#include "broker/frames.h"
#include "broker/letters.h"

struct lvt_letter_slot {
    struct lvt_publish *publish; /* NULL: answered */
    bool returned;
    char return_text[100];
};

/* The half that sends: letters_send.c. */
struct lvt_letters_sender {
    struct lvt_connection connection;
    struct lvt_frames frames;
    struct lvt_letter_slot slots[LVT_LETTERS_IN_FLIGHT_MAX]; /* by sequence number, modulo */
    uint64_t first, next; /* sequence numbers: oldest in flight, next to send */
    size_t in_flight;
    bool blocked;
    struct lvt_publish *answered, **answered_last;
};

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

#endif
