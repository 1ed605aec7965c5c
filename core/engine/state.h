/* The engine's state, and the steps that its files give one another. For core/engine only. */
#ifndef LEVERET_ENGINE_STATE_H
#define LEVERET_ENGINE_STATE_H

#include <pthread.h>

#include "engine/engine.h"
#include "engine/event.h"
#include "engine/run.h"

#define LVT_RELAY_BUCKETS 1024

/* The events that wait for a service that is away. */
struct lvt_outage {
    struct lvt_engine *engine;
    enum lvt_service service;
    bool on;
    uint64_t number; /* of outages so far */
    uint64_t began_ms;
    struct lvt_event_list held;
    unsigned trying, trying_max; /* events let go, to find out whether it is back */
    uint32_t tries;              /* in a row, since one came through */
    struct lvt_timer timer;      /* to the next of them */
};

struct lvt_engine {
    struct lvt_engine_options options;
    struct lvt_clock clock;
    struct lvt_broker_port broker;
    struct lvt_ledger_port ledger;
    struct lvt_cache_port cache;
    struct lvt_http_port http;
    struct lvt_outgoing_limits limits;

    struct lvt_delivery *arrived, *arrived_last;
    struct lvt_event_list to_claim;
    struct lvt_claim *claimed, *claimed_last; /* answers */
    struct lvt_event_list to_settle;          /* runs that ended, and events that cannot run */
    struct lvt_claim *recorded;               /* answers */
    struct lvt_handler *startable, *startable_last; /* handlers whose events may start */
    struct lvt_handler *retired;                    /* until their last event is done */

    struct lvt_event **in_hand; /* by key */
    size_t in_hand_count, in_hand_size;
    struct lvt_event *all;
    size_t in_flight;
    struct lvt_effect *orphans; /* asked for by runs that ended before the answer */
    struct lvt_effect *tx_waiting, *tx_waiting_last;
    struct lvt_invalidation *invalidating;              /* under way after a commit */
    struct lvt_outbox_row *relaying[LVT_RELAY_BUCKETS]; /* under way, by the hash of their key */
    uint32_t tx_open;
    uint64_t sessions_lost; /* by the ledger, so far */
    struct lvt_outage outages[LVT_SERVICES];
    bool draining;
    size_t running;     /* handlers that have begun and not ended */
    unsigned entered;   /* how deep the loop's thread is in handlers' code */
    bool suspects_wait; /* perhaps: among the ready events there may be some */
    bool alone;         /* a suspect runs: nothing may start beside it */

    pthread_mutex_t post_lock; /* over the letters */
    struct lvt_letter *letters;
};

/* engine.c: the list of deliveries is decoded with the next pump. */
void lvt_engine_arrived(void *ctx, struct lvt_delivery *list);

/* post.c */
void lvt_post_step(struct lvt_engine *engine);

/* event.c */
void lvt_event_append(struct lvt_event_list *list, struct lvt_event *event);
struct lvt_event *lvt_event_take(struct lvt_event_list *list);
void lvt_event_enter(struct lvt_engine *engine, struct lvt_event *event,
                     enum lvt_event_stage stage);
/* In place of any verdict before. Copies the texts, cut to their limits. */
void lvt_event_judge(struct lvt_event *event, const struct lvt_verdict *verdict);
/* Waits, longer each time in a row, and then calls fire. */
void lvt_event_wait(struct lvt_engine *engine, struct lvt_event *event, uint64_t first_ms,
                    uint64_t cap_ms, void (*fire)(struct lvt_timer *timer));
struct lvt_event *lvt_event_of_timer(struct lvt_timer *timer);
struct lvt_event *lvt_event_of_claim(struct lvt_claim *claim);
/* Takes it off the list of all; its delivery stays. */
void lvt_event_unlist(struct lvt_engine *engine, struct lvt_event *event);
/* Its deliveries go, acked or not, and its claim with them. */
void lvt_event_forget(struct lvt_engine *engine, struct lvt_event *event);
/* The same, and its deliveries go back to their queue at once. */
void lvt_event_give_back(struct lvt_engine *engine, struct lvt_event *event);

/* decode.c: makes an event of a delivery. One that cannot be decoded, or asks to come later, has no
 * claim, and a verdict already: it goes straight to settle. NULL when out of memory. */
struct lvt_event *lvt_decode(struct lvt_engine *engine, struct lvt_delivery *delivery);

/* What is wrong with an event that no handler of its queue takes. */
void lvt_no_handler_text(const struct lvt_queue *queue, struct lvt_bytes type, char *text,
                         size_t size);

/* handlers.c */
/* Whose event it is (NULL: nobody's). The handler stays as long as it has one. */
void lvt_event_hand_to(struct lvt_event *event, struct lvt_handler *handler);
/* Finds a handler for an event whose own is retired. False when there is none: the event goes
 * another way then, and is not the caller's any more. */
bool lvt_event_reroute(struct lvt_engine *engine, struct lvt_event *event);
/* Frees the retired handlers that nobody holds. */
void lvt_handlers_sweep(struct lvt_engine *engine);

/* claim.c */
void lvt_claim_step(struct lvt_engine *engine);
/* Puts the event in the map of those in hand, or joins its delivery to the one that is there. */
void lvt_claim_admit(struct lvt_engine *engine, struct lvt_event *event);
void lvt_claim_end(struct lvt_engine *engine, struct lvt_event *event);
/* Its claim, given up if it has one, is asked for with the next pump. */
void lvt_claim_renew(struct lvt_engine *engine, struct lvt_event *event);
/* The ledger has lost its session: what no handler runs is claimed anew, and looked up again,
 * because another worker may run it meanwhile. */
void lvt_claims_lost(struct lvt_engine *engine);

/* run.c */
bool lvt_run_step(struct lvt_engine *engine);
/* The event may run when its handler has room for it. */
void lvt_run_queue(struct lvt_engine *engine, struct lvt_event *event);
/* The same for one that waited: its claim may have been lost meanwhile. */
void lvt_run_queue_again(struct lvt_engine *engine, struct lvt_event *event);
/* Ends a run from the engine's side: the runtime forgets it. */
void lvt_run_stop(struct lvt_run *run, const struct lvt_verdict *verdict);
/* It may start some of the events that wait for it. */
void lvt_handler_wake(struct lvt_engine *engine, struct lvt_handler *handler);
/* Has the runtime forget a run that has not finished. */
void lvt_run_abort(struct lvt_run *run);
void lvt_handlers_wake(struct lvt_engine *engine);

/* quarantine.c */
/* Gives an event without an id a key to be charged by. */
void lvt_quarantine_name(struct lvt_engine *engine, struct lvt_event *event);
/* The event becomes ready. */
void lvt_quarantine_queue(struct lvt_engine *engine, struct lvt_event *event);
/* True: it does not start now, and is not the caller's any more. */
bool lvt_quarantine_holds(struct lvt_engine *engine, struct lvt_event *event);
/* Whether a suspect is among the handler's ready events. */
bool lvt_quarantine_waits(const struct lvt_handler *handler);
/* The first of them, off the list. */
struct lvt_event *lvt_quarantine_take(struct lvt_handler *handler);
void lvt_quarantine_begin(struct lvt_run *run);
void lvt_quarantine_end(struct lvt_run *run);
void lvt_quarantine_settled(struct lvt_engine *engine, const struct lvt_event *event);

/* outage.c */
void lvt_outages_init(struct lvt_engine *engine);
/* The event's run met the outage that its verdict names: it runs again when that is over. */
void lvt_outage_met(struct lvt_engine *engine, struct lvt_event *event);
/* True: it does not start now, and is not the caller's any more. */
bool lvt_outage_holds(struct lvt_engine *engine, struct lvt_event *event);
/* What a run came to, or its commit: tells whether its handler can do without a service. */
void lvt_outage_note(const struct lvt_run *run);
/* The event leaves. */
void lvt_outage_left(struct lvt_engine *engine, struct lvt_event *event);
/* True when it has let some go, which the next pump starts. */
bool lvt_outage_step(struct lvt_engine *engine);
/* Nothing is held any more, and nothing will be. */
void lvt_outages_end(struct lvt_engine *engine);

/* effects.c */
/* Nothing that the run asked for is answered any more. Its transaction stays open. */
void lvt_effects_end(struct lvt_run *run);
bool lvt_effects_sql_pending(const struct lvt_run *run);
/* Whether it waits for the broker to confirm what it published. */
bool lvt_effects_publish_pending(const struct lvt_run *run);
/* Rolls back the run's transaction, if it has one, and what was to follow its commit. */
void lvt_effects_rollback(struct lvt_run *run);
/* The run's transaction has ended: another may have its place in the pool. */
void lvt_effects_free(struct lvt_engine *engine);
void lvt_effects_tx_ended(struct lvt_engine *engine, struct lvt_run *run);

/* invalidations.c */
/* Keeps a pattern for after the commit, under the number that is the rows' only cell. False when
 * out of memory. */
bool lvt_invalidation_keep(struct lvt_run *run, struct lvt_bytes pattern,
                           const struct lvt_rows *rows);
void lvt_invalidations_start(struct lvt_engine *engine, struct lvt_run *run);
void lvt_invalidation_due(void *ctx, int64_t number, struct lvt_bytes pattern);
void lvt_invalidations_free(struct lvt_invalidation **list);

/* relay.c */
void lvt_relay_due(void *ctx, struct lvt_outbox_row *list);

/* settle.c */
void lvt_settle_step(struct lvt_engine *engine);
void lvt_settle_published(void *ctx, struct lvt_publish *list);

/* outcome.c: the log line and the counters of what became of an event. */
void lvt_outcome_report(struct lvt_engine *engine, struct lvt_event *event);
/* Nothing has become of it yet. */
void lvt_outcome_waits(const struct lvt_engine *engine, const struct lvt_event *event);

#endif
