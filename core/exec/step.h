/* What a handler asked for while it was watched, in order, and what it was answered. */
#ifndef LEVERET_EXEC_STEP_H
#define LEVERET_EXEC_STEP_H

#include "base/log.h"
#include "engine/ports.h"

enum lvt_step_kind {
    LVT_STEP_BEGIN, /* the transaction, which the first statement opens */
    LVT_STEP_SQL,
    LVT_STEP_COMMIT,
    LVT_STEP_ROLLBACK,
    LVT_STEP_REDIS,
    LVT_STEP_INVALIDATE,
    LVT_STEP_INVALIDATE_LATER, /* once the transaction has committed */
    LVT_STEP_HTTP,
    LVT_STEP_PUBLISH,
    LVT_STEP_PUBLISH_LATER, /* with the transaction */
    LVT_STEP_SLEEP,
    LVT_STEP_LOG,
};

/* Valid until the callback that gets it returns. */
struct lvt_step {
    enum lvt_step_kind kind;
    unsigned number; /* from 1 */
    union {
        const struct lvt_sql *sql;
        struct {
            const struct lvt_bytes *argv;
            size_t argc;
        } redis;
        struct lvt_bytes pattern; /* INVALIDATE, and LATER */
        const struct lvt_http_request *http;
        const struct lvt_publish *publish; /* PUBLISH, and LATER */
        uint64_t sleep_ms;
        struct {
            enum lvt_level level;
            const char *text;
            const struct lvt_field *fields;
            size_t field_count;
        } log;
    } of;
};

/* Only what its kind has is set. Valid until the callback that gets it returns. */
struct lvt_step_answer {
    enum lvt_step_kind kind;
    unsigned number; /* the step's */
    enum lvt_answer result;
    const char *error; /* of a result that is not OK */
    const struct lvt_rows *rows;
    const struct lvt_reply *reply;
    int64_t removed;
    const struct lvt_http_response *response;
};

struct lvt_watcher {
    void *ctx;
    void (*step)(void *ctx, const struct lvt_step *step);
    void (*answer)(void *ctx, const struct lvt_step_answer *answer);
};

#endif
