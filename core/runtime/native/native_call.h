/* A call of a plugin's that asks for an effect, from the asking to the answer. */
#ifndef LEVERET_RUNTIME_NATIVE_CALL_H
#define LEVERET_RUNTIME_NATIVE_CALL_H

#include "base/arena.h"
#include "engine/outgoing.h"
#include "runtime/native/native_state.h"

/* An answer that a call gets at once, without having been made. */
#define LVT_NATIVE_REFUSAL(name, kind, string)                                                     \
    static const struct leveret_answer name = {                                                    \
        .size = sizeof name, .status = (kind), .error = {(string), sizeof(string) - 1}}

struct lvt_native_call {
    struct lvt_native_call *prev, *next; /* of its slot's calls, or of those asked by threads */
    struct lvt_native_slot *slot;
    void (*perform)(struct lvt_native_call *call);
    leveret_answered *done; /* NULL: a thread waits */
    void *ctx;
    bool answered; /* for a thread that waits, under the lock, as is the next one */
    pthread_cond_t ready;
    struct lvt_arena arena; /* of the arguments' arrays and the answer */
    struct leveret_answer answer;
    struct lvt_bytes text;   /* a statement */
    struct lvt_bytes *texts; /* parameters, words, patterns */
    size_t text_count;
    struct lvt_http_request request;
    struct lvt_outgoing outgoing;
    uint64_t delay_ms;
};

/* NULL: the call is in order. */
const struct leveret_answer *lvt_native_call_refuse(struct leveret_event event,
                                                    leveret_answered *done);
/* The arrays of the arguments are copied; their texts are not: nobody goes on before the engine has
 * taken what it needs of them. NULL when out of memory. */
struct lvt_native_call *lvt_native_call_new(struct leveret_event event, leveret_answered *done,
                                            void *ctx, const struct leveret_text *texts,
                                            size_t count);
/* Takes the call, which knows by now how it is performed; NULL is out of memory. */
const struct leveret_answer *lvt_native_call_ask(struct leveret_event event,
                                                 struct lvt_native_call *call);
/* NULL is fine. */
void lvt_native_call_free(struct lvt_native_call *call);

/* Its answer is filled in: hands it out, and the call is over. On the loop's thread, without the
 * lock. */
void lvt_native_call_answered(struct lvt_native_call *call);

/* Puts the call on its slot's list and asks the engine. On the loop's thread, without the lock. */
void lvt_native_call_perform(struct lvt_native_call *call);

/* Answers what belongs to an event that has ended: a list taken from its slot. On the loop's
 * thread, without the lock. */
void lvt_native_calls_cancel(struct lvt_native_call *list);

/* native_answer.c: fill in an answer; each copies what it is given into the call's arena, and
 * leaves an error there when it is out of memory. */
void lvt_native_answer_rows(struct lvt_native_call *call, const struct lvt_rows *rows);
void lvt_native_answer_reply(struct lvt_native_call *call, const struct lvt_reply *reply);
void lvt_native_answer_response(struct lvt_native_call *call,
                                const struct lvt_http_response *response);
void lvt_native_answer_id(struct lvt_native_call *call, struct lvt_bytes id);
void lvt_native_answer_error(struct lvt_native_call *call, const char *text);

#endif
