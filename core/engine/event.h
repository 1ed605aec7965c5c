/* An event in hand: a delivery once it is decoded, with what has become of it so far. */
#ifndef LEVERET_ENGINE_EVENT_H
#define LEVERET_ENGINE_EVENT_H

#include "base/log.h"
#include "engine/ports.h"
#include "engine/routes.h"
#include "engine/stats.h"
#include "engine/verdict.h"
#include "event/envelope.h"

enum lvt_event_stage {
    LVT_STAGE_DECODED, /* not claimed yet */
    LVT_STAGE_CLAIMING,
    LVT_STAGE_READY, /* may run, when its turn comes */
    LVT_STAGE_RUNNING,
    LVT_STAGE_WAITING, /* for another worker, or for a service that is away */
    LVT_STAGE_SETTLING,
};

struct lvt_event {
    struct lvt_event *next;         /* of the one list that it is on */
    struct lvt_event *in_hand_next; /* of its bucket */
    struct lvt_event *all_prev, *all_next;
    struct lvt_engine *engine;
    struct lvt_delivery *delivery;  /* its arena holds this struct and its texts */
    struct lvt_delivery *joined;    /* later deliveries of the same key */
    struct lvt_delivery *held_back; /* came before the confirm: perhaps what it became */
    struct lvt_handler *handler;    /* NULL when there is none for it */
    enum lvt_event_stage stage;

    /* what a handler sees */
    struct lvt_bytes type, id;              /* id is empty when the event has none */
    struct lvt_bytes time;                  /* as the envelope spells it */
    struct lvt_bytes payload;               /* JSON, a slice of the body */
    struct lvt_bytes exchange, routing_key; /* as first published */
    uint32_t attempt;                       /* starts at 1 */
    bool failed_before;                     /* this very attempt has, says a copy that came later */
    uint32_t max_attempts;                  /* what the event itself asks for; 0: the handler's */
    int64_t priority;                       /* likewise, or what it was published with; -1: none */
    uint64_t asked_delay_ms;                /* likewise, while it has not been served */

    struct lvt_claim claim;
    bool in_hand;           /* on the map of keys: it has an id */
    bool claimed;           /* the claim is ours, until a record or a release ends it */
    uint64_t claimed_after; /* so many losses of the ledger's session */
    uint32_t waits;         /* in a row: each longer than the one before */
    struct lvt_timer timer; /* ends a wait */

    bool suspect;     /* it may have ended a lane: it runs alone */
    bool condemned;   /* it has, too often: it does not run any more */
    uint32_t crashes; /* how often it has */

    struct lvt_run *run;
    enum lvt_service waits_for; /* its message says so: it met that one's outage */
    enum lvt_service probes;    /* it was let go to find out whether that one is back */
    bool put_off;               /* its message is to say that it waits for Redis */
    uint64_t duration_ms;
    uint32_t conflicts; /* transactions that PostgreSQL asked to run again */

    struct lvt_verdict verdict; /* its texts are in the delivery's arena */
    bool dead;                  /* it goes, or went, to the dead letters */
    uint64_t delay_ms;          /* until its retry */
    struct lvt_publish publish;
    bool publishing;
    bool abandoned; /* the worker is closing: forget it with the last answer */
};

/* How often it may be retried: what it asks for itself wins over its handler's policy. */
uint32_t lvt_event_retries(const struct lvt_event *event);

#endif
