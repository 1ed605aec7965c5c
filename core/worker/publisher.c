/* leveret_publisher_*: the client, as programs see it. */
#include <stdlib.h>

#include "publish/client.h"
#include "runtime/native/native_header.h"
#include "worker/log.h"
#include "worker/worker.h"

_Static_assert(LEVERET_ID_SIZE == LVT_CLIENT_ID_SIZE, "ids cross as they are");

struct leveret_publisher {
    struct lvt_client *client;
    struct lvt_program_log program_log;
    struct lvt_log log;
};

enum leveret_code leveret_publisher_new(const struct leveret_config *config, leveret_log_sink *sink,
                                        void *sink_ctx, struct leveret_publisher **ret_publisher,
                                        struct leveret_error *err) {
    enum leveret_code code = lvt_config_check(&config->values, err);
    if (code != LEVERET_OK)
        return code;
    struct leveret_publisher *publisher = calloc(1, sizeof *publisher);
    if (!publisher)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for a publisher");
    publisher->program_log =
        (struct lvt_program_log){(enum lvt_log_format)config->values.log.format, sink, sink_ctx};
    publisher->log = lvt_program_log_of(&publisher->program_log, config->values.log.level);
    code = lvt_client_new(&config->values, &publisher->log, &publisher->client, err);
    if (code != LEVERET_OK) {
        free(publisher);
        return code;
    }
    *ret_publisher = publisher;
    return LEVERET_OK;
}

void leveret_publisher_free(struct leveret_publisher *publisher) {
    if (!publisher)
        return;
    lvt_client_free(publisher->client);
    free(publisher);
}

/* ---- events ---- */

static struct lvt_bytes bytes(struct leveret_text text) {
    return lvt_bytes(text.data, text.len);
}

/* `headers` has room for LVT_OUTGOING_HEADERS_MAX. */
static enum leveret_code take(const struct leveret_outgoing *from, struct lvt_header *headers,
                              struct lvt_outgoing *ret, struct leveret_error *err) {
    if (!from || from->size != sizeof *from)
        return leveret_fail(err, LEVERET_INVALID,
                            "an event to publish begins with leveret_outgoing(), which sets its "
                            "size");
    if (from->header_count > LVT_OUTGOING_HEADERS_MAX)
        return leveret_fail(err, LEVERET_INVALID, "there are %zu headers; %d is the most",
                            from->header_count, LVT_OUTGOING_HEADERS_MAX);
    for (size_t i = 0; i < from->header_count; i++)
        headers[i] = lvt_native_header_of(&from->headers[i]);
    *ret = (struct lvt_outgoing){.event = bytes(from->event),
                                 .payload = bytes(from->payload),
                                 .whole = from->whole,
                                 .id = bytes(from->id),
                                 .exchange = bytes(from->exchange),
                                 .queue = bytes(from->queue),
                                 .delay_ms = from->delay_ms,
                                 .ttl_ms = from->ttl_ms,
                                 .priority = from->priority,
                                 .max_attempts = from->max_attempts,
                                 .traceparent = bytes(from->traceparent),
                                 .headers = headers,
                                 .header_count = from->header_count};
    return LEVERET_OK;
}

/* ---- publishing ---- */

struct answer {
    leveret_published *done;
    void *ctx;
};

static void answered(void *ctx, enum leveret_code code, struct lvt_bytes id, const char *text) {
    struct answer *answer = ctx;
    if (answer->done)
        answer->done(answer->ctx, (int32_t)code, (struct leveret_text){id.data, id.len}, text);
    free(answer);
}

enum leveret_code leveret_publisher_publish(struct leveret_publisher *publisher,
                                            const struct leveret_outgoing *outgoing,
                                            uint64_t wait_ms, leveret_published *done, void *ctx,
                                            struct leveret_error *err) {
    struct lvt_header headers[LVT_OUTGOING_HEADERS_MAX];
    struct lvt_outgoing taken;
    enum leveret_code code = take(outgoing, headers, &taken, err);
    if (code != LEVERET_OK)
        return code;
    struct answer *answer = malloc(sizeof *answer);
    if (!answer)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    *answer = (struct answer){done, ctx};
    code = lvt_client_publish(publisher->client, &taken, wait_ms, answered, answer, err);
    if (code != LEVERET_OK)
        free(answer);
    return code;
}

enum leveret_code leveret_publisher_publish_wait(struct leveret_publisher *publisher,
                                                 const struct leveret_outgoing *outgoing,
                                                 uint64_t wait_ms, char ret_id[LEVERET_ID_SIZE],
                                                 struct leveret_error *err) {
    struct lvt_header headers[LVT_OUTGOING_HEADERS_MAX];
    struct lvt_outgoing taken;
    enum leveret_code code = take(outgoing, headers, &taken, err);
    if (code != LEVERET_OK)
        return code;
    return lvt_client_publish_wait(publisher->client, &taken, wait_ms, ret_id, err);
}

bool leveret_publisher_drain(struct leveret_publisher *publisher, uint64_t wait_ms) {
    return lvt_client_drain(publisher->client, wait_ms);
}

bool leveret_publisher_ready(struct leveret_publisher *publisher) {
    struct lvt_client_status status;
    lvt_client_status(publisher->client, &status);
    return status.connected && !status.blocked;
}
