/* What a running handler may ask for, whichever runtime runs it. Each call answers through `done`
 * once, after it has returned, unless the run ends before: then the answer never comes. */
#ifndef LEVERET_ENGINE_EFFECTS_H
#define LEVERET_ENGINE_EFFECTS_H

#include "engine/outgoing.h"
#include "engine/ports.h"

struct lvt_run;

/* In the run's transaction, which the first call opens together with the event's record.
 * An outage, or a record that was there already, ends the run: `done` is not called. */
void lvt_effect_query(struct lvt_run *run, const struct lvt_sql *sql, lvt_rows_done *done,
                      void *ctx);

/* An outage ends the run. */
void lvt_effect_redis(struct lvt_run *run, const struct lvt_bytes *argv, size_t argc,
                      lvt_reply_done *done, void *ctx);

/* With a transaction open it happens after the commit, and `removed` is -1. An outage ends the run.
 */
void lvt_effect_invalidate(struct lvt_run *run, const struct lvt_bytes *patterns, size_t count,
                           lvt_invalidate_done *done, void *ctx);

void lvt_effect_http(struct lvt_run *run, const struct lvt_http_request *request,
                     lvt_http_done *done, void *ctx);

/* The id is the event's own, also where none was given. error with ERROR: it cannot be published,
 * no queue takes it, or the broker refuses it. */
typedef void lvt_published_done(void *ctx, enum lvt_answer answer, struct lvt_bytes id,
                                const char *error);

/* Copied before the call returns. Answered when the broker has confirmed it; while that is away the
 * run waits, and its timeout does not count. With a transaction open the event is written into the
 * outbox, goes out with the commit, and is answered once it is written. */
void lvt_effect_publish(struct lvt_run *run, const struct lvt_outgoing *outgoing,
                        lvt_published_done *done, void *ctx);

void lvt_effect_sleep(struct lvt_run *run, uint64_t delay_ms, void (*done)(void *ctx), void *ctx);
bool lvt_effect_sleeps(const struct lvt_run *run);

/* The run has been at work for long: it is interrupted, and goes on once the loop has seen to all
 * others. Its handler starts no other run until this one waits for something or ends. */
void lvt_effect_turn(struct lvt_run *run, void (*done)(void *ctx), void *ctx);

#endif
