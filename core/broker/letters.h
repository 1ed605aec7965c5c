/* Looks through a queue of dead letters from a program that a person runs: it reads each letter,
 * sends some on to other queues, removes some, and gives the rest back. A letter that is not
 * removed is never acked, so that the broker gives it back whatever becomes of this program.
 *
 * One connection asks, one takes letters, one sends: an alarm stops the broker reading from a
 * connection that sends. All calls are made inside lvt_letters_run. */
#ifndef LEVERET_BROKER_LETTERS_H
#define LEVERET_BROKER_LETTERS_H

#include <stdatomic.h>

#include "base/error.h"
#include "engine/ports.h"
#include "event/delivery.h"

/* Sent and not yet answered, at most. */
#define LVT_LETTERS_IN_FLIGHT_MAX 256

struct lvt_letters;

/* Texts must outlive the letters. */
struct lvt_letters_options {
    const char *url;
    const char *ca_file; /* for amqps://; NULL: the system's */
    uint32_t heartbeat_s;
    const char *name;        /* how RabbitMQ lists the connections */
    const atomic_bool *stop; /* setting it, from any thread, ends waits early */
};

/* Calls work(ctx) on a thread whose stack has room for the deepest headers, and waits for it.
 * Signals go to the other threads. */
enum leveret_code lvt_letters_run(void (*work)(void *ctx), void *ctx,
                                  struct leveret_error *err) LVT_MUST_CHECK;

/* LEVERET_UNAVAILABLE: the broker is away. */
enum leveret_code lvt_letters_open(const struct lvt_letters_options *options,
                                   struct lvt_letters **ret,
                                   struct leveret_error *err) LVT_MUST_CHECK;
/* Letters of a pass that has not ended go back to their queue. Accepts NULL. */
void lvt_letters_free(struct lvt_letters *letters);

struct lvt_letters_queue {
    bool exists;
    uint64_t depth, consumers; /* letters that are ready, and everybody's consumers */
    /* How often the broker hands a letter out before it drops it; 0: there is no such limit, or it
     * is not known. */
    uint64_t drops_after;
};

enum leveret_code lvt_letters_look(struct lvt_letters *letters, const char *queue,
                                   struct lvt_letters_queue *ret,
                                   struct leveret_error *err) LVT_MUST_CHECK;

/* Begins a pass over the first `most` letters of a queue. */
enum leveret_code lvt_letters_begin(struct lvt_letters *letters, const char *queue, uint64_t most,
                                    struct leveret_error *err) LVT_MUST_CHECK;
/* Reads what the broker sends, and waits for it, up to that time, when nothing is there. Within a
 * pass it must be called every few seconds, or the broker hangs up. After an error, of this or
 * another call, nothing remains but to take the answers and free the letters: the broker has what
 * was not removed. */
enum leveret_code lvt_letters_work(struct lvt_letters *letters, int timeout_ms,
                                   struct leveret_error *err) LVT_MUST_CHECK;
/* The next letter that work has brought, which is the caller's to free; NULL: none yet. */
struct lvt_delivery *lvt_letters_next(struct lvt_letters *letters);
/* Whether there will be no more. */
bool lvt_letters_over(const struct lvt_letters *letters);
/* Takes a letter out of the queue for good. */
enum leveret_code lvt_letters_remove(struct lvt_letters *letters, const struct lvt_delivery *letter,
                                     struct leveret_error *err) LVT_MUST_CHECK;
/* Gives back what was not removed, and waits a moment until the queue shows it. */
enum leveret_code lvt_letters_end(struct lvt_letters *letters,
                                  struct leveret_error *err) LVT_MUST_CHECK;

/* Sends a message to the queue destination.name: persistent, mandatory. It stays as it is until
 * lvt_letters_answered returns it, with the result: LVT_PUBLISH_DROPPED when the connection broke,
 * or this call failed. Only while lvt_letters_can_send. */
enum leveret_code lvt_letters_send(struct lvt_letters *letters, struct lvt_publish *publish,
                                   struct leveret_error *err) LVT_MUST_CHECK;
bool lvt_letters_can_send(const struct lvt_letters *letters);
/* Whether RabbitMQ takes no messages, because of an alarm. */
bool lvt_letters_blocked(const struct lvt_letters *letters);
/* NULL: no more answers for now. */
struct lvt_publish *lvt_letters_answered(struct lvt_letters *letters);

#endif
