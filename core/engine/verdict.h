/* What a run of a handler came to. */
#ifndef LEVERET_ENGINE_VERDICT_H
#define LEVERET_ENGINE_VERDICT_H

#include <stdint.h>

#include "base/bytes.h"

enum lvt_verdict_kind {
    LVT_VERDICT_DONE,
    LVT_VERDICT_RETRY,  /* a failed attempt */
    LVT_VERDICT_REJECT, /* to the dead letters at once */
    LVT_VERDICT_DROP,   /* done, counted as dropped */
    LVT_VERDICT_SNOOZE, /* later, at no cost of an attempt */
    /* the engine's own: */
    LVT_VERDICT_OUTAGE,    /* a service went away: run again when it is back, at no cost */
    LVT_VERDICT_DUPLICATE, /* the transaction found the event's record */
};

/* Whose outage a run may meet. */
enum lvt_service {
    LVT_SERVICE_NONE, /* none that can be asked whether it is back: memory, a free connection */
    LVT_SERVICE_POSTGRES,
    LVT_SERVICE_REDIS,
    LVT_SERVICES, /* their number */
};

#define LVT_REASON_MAX 1024
#define LVT_TRACE_MAX 8192

/* Texts are copied by whoever is given a verdict, and cut at the limits above. */
struct lvt_verdict {
    enum lvt_verdict_kind kind;
    struct lvt_bytes reason;
    struct lvt_bytes trace;
    int64_t after_ms;         /* RETRY: -1 for the policy's delay; SNOOZE: the delay */
    char sqlstate[6];         /* of the SQL error that nobody caught, or "" */
    enum lvt_service service; /* OUTAGE: whose */
};

#endif
