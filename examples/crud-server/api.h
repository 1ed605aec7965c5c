/* What the server answers, apart from HTTP itself. openapi.yaml describes it. */
#ifndef API_H
#define API_H

#include "events.h"
#include "store.h"

/* The longest body that is read: an item's texts fit in, each character escaped. */
#define API_BODY_MAX 65536

struct request {
    const char *method, *path;
    const char *after, *limit; /* of the query; NULL when not given */
    const char *body;          /* with a NUL behind it */
    size_t body_len;
};

struct reply {
    unsigned status;
    char *body; /* JSON, which free() frees; NULL: none */
    const char *allow;
    char location[40], link[80]; /* empty: none */
};

/* From any thread. `events` is NULL when they go through the store's outbox. */
struct reply api_answer(const struct store *store, struct events *events,
                        const struct request *request);

/* An error, as RFC 9457 has it. */
struct reply api_problem(unsigned status, const char *detail);

#endif
