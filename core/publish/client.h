/* A program's own publisher: many events in flight, each answered once, on a thread of the
 * client's. From any thread, but for lvt_client_free. */
#ifndef LEVERET_PUBLISH_CLIENT_H
#define LEVERET_PUBLISH_CLIENT_H

#include "base/error.h"
#include "base/log.h"
#include "config/config.h"
#include "engine/outgoing.h"

struct lvt_client;

/* LVT_CLIENT_FOREVER waits as long as it takes. */
#define LVT_CLIENT_FOREVER UINT64_MAX
/* Events that are published and not answered. One more waits until there is room. */
#define LVT_CLIENT_EVENTS_MAX 10000
#define LVT_CLIENT_BYTES_MAX (64u << 20)
/* Room for every id, with its NUL. */
#define LVT_CLIENT_ID_SIZE 256

/* What became of an event. The text says why when code is not LEVERET_OK; both texts last until it
 * returns. LEVERET_REFUSED: no queue takes it, or RabbitMQ refuses it. LEVERET_UNAVAILABLE:
 * RabbitMQ is away or takes no messages, and the time is over; whether it arrived is not known if
 * the connection was lost with it. */
typedef void lvt_client_done(void *ctx, enum leveret_code code, struct lvt_bytes id,
                             const char *text);

/* Begins to connect, in the background. config is read before it returns; log outlives the client.
 */
enum leveret_code lvt_client_new(const struct lvt_config *config, const struct lvt_log *log,
                                 struct lvt_client **ret_client,
                                 struct leveret_error *err) LVT_MUST_CHECK;

/* Answered when RabbitMQ has, or when it has not within wait_ms. With wait_ms 0 the answer comes as
 * soon as it is known that RabbitMQ cannot be reached. An error that is returned means that `done`
 * is not called: the event cannot be published, or there was no room within the time. Inside `done`
 * nothing waits for room: LEVERET_TOO_BIG. */
enum leveret_code lvt_client_publish(struct lvt_client *client, const struct lvt_outgoing *outgoing,
                                     uint64_t wait_ms, lvt_client_done *done, void *ctx,
                                     struct leveret_error *err) LVT_MUST_CHECK;

/* The same, and waits for the answer. ret_id may be NULL. Not inside `done`. */
enum leveret_code lvt_client_publish_wait(struct lvt_client *client,
                                          const struct lvt_outgoing *outgoing, uint64_t wait_ms,
                                          char ret_id[LVT_CLIENT_ID_SIZE],
                                          struct leveret_error *err) LVT_MUST_CHECK;

/* Waits until everything has been answered. False when it has not within that time. */
bool lvt_client_drain(struct lvt_client *client, uint64_t wait_ms);

struct lvt_client_status {
    bool connected;
    bool blocked; /* RabbitMQ takes no messages: an alarm */
    size_t pending;
    struct leveret_error problem; /* code LEVERET_OK: none */
};
void lvt_client_status(struct lvt_client *client, struct lvt_client_status *ret_status);

/* Answers what is left within a few seconds, with LEVERET_UNAVAILABLE if need be, and closes. NULL
 * is fine. */
void lvt_client_free(struct lvt_client *client);

#endif
