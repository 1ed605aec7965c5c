/* One connection to RabbitMQ with one channel: how it is made, how it ends, and what its errors
 * mean. Used by the thread that owns it. */
#ifndef LEVERET_BROKER_CONNECTION_H
#define LEVERET_BROKER_CONNECTION_H

#include <stdatomic.h>

#include "base/error.h"
#include "broker/rabbitmq.h"
#include "broker/url.h"
#include "broker/watchdog.h"

struct lvt_connection_options {
    const struct lvt_amqp_url *url;
    const char *ca_file; /* NULL: the system's */
    uint32_t heartbeat_s;
    const char *name;          /* as RabbitMQ lists it */
    const atomic_bool *cancel; /* setting it ends an attempt to reach the server early */
};

struct lvt_connection {
    amqp_connection_state_t amqp; /* NULL: not connected */
    struct lvt_watch *watch;
    uint64_t limit_ms; /* of one call of the library */
    bool tls;
};

/* Logs in and opens the channel. LEVERET_CONFIG: trying again without a change is of no use;
 * LEVERET_UNAVAILABLE: it may be. */
enum leveret_code lvt_connection_open(struct lvt_connection *connection,
                                      const struct lvt_connection_options *options,
                                      struct leveret_error *err) LVT_MUST_CHECK;
/* Says goodbye, and waits a moment for the answer. Only on a connection that is in order. */
void lvt_connection_close(struct lvt_connection *connection);
/* Without a word to the other side. */
void lvt_connection_drop(struct lvt_connection *connection);

/* The server's major version; 0 when it did not tell. */
int lvt_connection_server_major(const struct lvt_connection *connection);
/* Its whole version, empty when it did not tell. */
struct lvt_bytes lvt_connection_server_version(const struct lvt_connection *connection);

/* All calls of the library go between these two. */
void lvt_connection_enter(struct lvt_connection *connection);
/* Instead of the first, or after it: a large message may take longer. */
void lvt_connection_enter_to_send(struct lvt_connection *connection, size_t bytes);
void lvt_connection_leave(struct lvt_connection *connection);

/* The answer of a call that waits for one; what it points to is gone afterwards. When the broker
 * said no by closing the channel, *ret_closed (may be NULL) gets its reply code, and the text is
 * the broker's; else it is 0. */
enum leveret_code lvt_connection_check(struct lvt_connection *connection, amqp_rpc_reply_t reply,
                                       int *ret_closed, struct leveret_error *err) LVT_MUST_CHECK;
/* After the broker closed the channel. */
enum leveret_code lvt_connection_reopen_channel(struct lvt_connection *connection,
                                                struct leveret_error *err) LVT_MUST_CHECK;

/* A status of the library as an error: LEVERET_UNAVAILABLE. */
enum leveret_code lvt_connection_lost(int status, struct leveret_error *err);
/* A channel.close or connection.close; the reply code, and the broker's text in *err. */
int lvt_connection_closed(const amqp_method_t *method, struct leveret_error *err);

#endif
