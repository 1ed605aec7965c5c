#include "broker/connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/dial.h"
#include "broker/tls.h"

#define CONNECT_MS 5000
#define HANDSHAKE_MS 10000
#define RPC_MS 15000
#define CLOSE_MS 2000
#define FRAME_MAX 131072
/* How long a call may take at least, whatever the heartbeat is. */
#define CALL_MS_MIN 10000
/* A slower connection is as good as none. */
#define BYTES_PER_MS_MIN 100

static struct timeval timeval_of(uint64_t ms) {
    return (struct timeval){.tv_sec = (time_t)(ms / 1000), .tv_usec = (long)(ms % 1000) * 1000};
}

void lvt_connection_enter(struct lvt_connection *connection) {
    lvt_watch_enter(connection->watch, connection->limit_ms);
}

void lvt_connection_enter_to_send(struct lvt_connection *connection, size_t bytes) {
    lvt_watch_enter(connection->watch, connection->limit_ms + bytes / BYTES_PER_MS_MIN);
}

void lvt_connection_leave(struct lvt_connection *connection) {
    lvt_watch_leave(connection->watch);
}

/* ---- what errors mean ---- */

enum leveret_code lvt_connection_lost(int status, struct leveret_error *err) {
    switch (status) {
    case AMQP_STATUS_CONNECTION_CLOSED:
    case AMQP_STATUS_SOCKET_CLOSED:
    case AMQP_STATUS_SOCKET_ERROR:
        return leveret_fail(err, LEVERET_UNAVAILABLE, "the connection to RabbitMQ broke");
    case AMQP_STATUS_HEARTBEAT_TIMEOUT:
        return leveret_fail(err, LEVERET_UNAVAILABLE,
                            "RabbitMQ has been silent for two heartbeats");
    case AMQP_STATUS_TIMEOUT:
        return leveret_fail(err, LEVERET_UNAVAILABLE, "RabbitMQ did not answer in time");
    case AMQP_STATUS_NO_MEMORY:
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    default:
        return leveret_fail(err, LEVERET_UNAVAILABLE, "the connection to RabbitMQ broke: %s",
                            amqp_error_string2(status));
    }
}

int lvt_connection_closed(const amqp_method_t *method, struct leveret_error *err) {
    /* Both methods begin with the same two fields, but are different types. */
    int code = 0;
    amqp_bytes_t text = amqp_empty_bytes;
    if (method->id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *close_ = method->decoded;
        code = close_->reply_code;
        text = close_->reply_text;
    } else if (method->id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *close_ = method->decoded;
        code = close_->reply_code;
        text = close_->reply_text;
    }
    leveret_fail(err, LEVERET_UNAVAILABLE, "%.*s", (int)text.len, (const char *)text.bytes);
    return code;
}

static enum leveret_code judge(amqp_rpc_reply_t reply, int *ret_closed, struct leveret_error *err) {
    switch (reply.reply_type) {
    case AMQP_RESPONSE_NORMAL:
        return LEVERET_OK;
    case AMQP_RESPONSE_SERVER_EXCEPTION: {
        int code = lvt_connection_closed(&reply.reply, err);
        if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
            *ret_closed = code;
            return LEVERET_UNAVAILABLE;
        }
        struct leveret_error said = *err;
        return leveret_fail(err, LEVERET_UNAVAILABLE, "RabbitMQ closed the connection: %s%s",
                            said.text, code == AMQP_INTERNAL_ERROR ? "; its log says why" : "");
    }
    case AMQP_RESPONSE_LIBRARY_EXCEPTION:
        return lvt_connection_lost(reply.library_error, err);
    case AMQP_RESPONSE_NONE:
        break;
    }
    return lvt_connection_lost(AMQP_STATUS_CONNECTION_CLOSED, err);
}

enum leveret_code lvt_connection_check(struct lvt_connection *connection, amqp_rpc_reply_t reply,
                                       int *ret_closed, struct leveret_error *err) {
    int closed = 0;
    enum leveret_code code = judge(reply, &closed, err);
    if (ret_closed) {
        *ret_closed = closed;
    }
    amqp_maybe_release_buffers(connection->amqp);
    return code;
}

/* ---- connecting ---- */

static enum leveret_code connect_plain(amqp_connection_state_t amqp,
                                       const struct lvt_connection_options *options,
                                       struct leveret_error *err) {
    amqp_socket_t *socket = amqp_tcp_socket_new(amqp);
    if (!socket) {
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    }
    int fd;
    enum leveret_code code =
        lvt_dial(options->url->host, options->url->port, CONNECT_MS, options->cancel, &fd, err);
    if (code == LEVERET_OK) {
        amqp_tcp_socket_set_sockfd(socket, fd);
    }
    return code;
}

/* ---- logging in ---- */

static amqp_table_entry_t text_entry(const char *key, const char *value) {
    return (amqp_table_entry_t){
        .key = amqp_cstring_bytes(key),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(value)}};
}

static amqp_table_entry_t true_entry(const char *key) {
    return (amqp_table_entry_t){.key = amqp_cstring_bytes(key),
                                .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
}

static enum leveret_code login_refused(const struct lvt_amqp_url *url, amqp_rpc_reply_t reply,
                                       struct leveret_error *err) {
    struct leveret_error said;
    int code = lvt_connection_closed(&reply.reply, &said);
    if (code == AMQP_ACCESS_REFUSED) {
        return leveret_fail(err, LEVERET_CONFIG,
                            "RabbitMQ at %s:%d refuses the user \"%s\": check user and password in "
                            "rabbitmq.url (RABBITMQ_URL; \"guest\" may log in from the same "
                            "machine only)",
                            url->host, url->port, url->user);
    }
    if (code == AMQP_NOT_ALLOWED && !strstr(said.text, "is down")) {
        return leveret_fail(
            err, LEVERET_CONFIG,
            "RabbitMQ at %s:%d does not let \"%s\" into the vhost \"%s\": %s; check "
            "the path in rabbitmq.url (RABBITMQ_URL)",
            url->host, url->port, url->user, url->vhost, said.text);
    }
    return leveret_fail(err, LEVERET_UNAVAILABLE, "RabbitMQ at %s:%d refuses the connection: %s",
                        url->host, url->port, said.text);
}

static enum leveret_code log_in(amqp_connection_state_t amqp,
                                const struct lvt_connection_options *options,
                                struct leveret_error *err) {
    /* The broker tells of a deleted queue or an alarm only when it is asked to. */
    amqp_table_entry_t capabilities[] = {
        true_entry("consumer_cancel_notify"),       true_entry("connection.blocked"),
        true_entry("publisher_confirms"),           true_entry("basic.nack"),
        true_entry("authentication_failure_close"),
    };
    amqp_table_entry_t entries[] = {
        text_entry("product", "leveret"),
        text_entry("version", LEVERET_VERSION),
        text_entry("connection_name", options->name),
        {.key = amqp_cstring_bytes("capabilities"),
         .value = {.kind = AMQP_FIELD_KIND_TABLE,
                   .value.table = {sizeof capabilities / sizeof *capabilities, capabilities}}},
    };
    amqp_table_t properties = {sizeof entries / sizeof *entries, entries};
    const struct lvt_amqp_url *url = options->url;
    amqp_rpc_reply_t reply = amqp_login_with_properties(
        amqp, url->vhost, LVT_CHANNEL, FRAME_MAX, (int)options->heartbeat_s, &properties,
        AMQP_SASL_METHOD_PLAIN, url->user, url->password);
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) {
        return LEVERET_OK;
    }
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION) {
        return login_refused(url, reply, err);
    }
    if (reply.library_error == AMQP_STATUS_BAD_AMQP_DATA ||
        reply.library_error == AMQP_STATUS_INCOMPATIBLE_AMQP_VERSION) {
        return leveret_fail(err, LEVERET_UNAVAILABLE,
                            "what answers at %s:%d does not speak AMQP 0-9-1; check host and port "
                            "in rabbitmq.url, and amqp:// or amqps:// before them",
                            url->host, url->port);
    }
    return leveret_fail(err, LEVERET_UNAVAILABLE, "RabbitMQ at %s:%d did not let us log in: %s",
                        url->host, url->port, amqp_error_string2(reply.library_error));
}

static enum leveret_code open_channel(struct lvt_connection *connection,
                                      struct leveret_error *err) {
    lvt_connection_enter(connection);
    amqp_channel_open(connection->amqp, LVT_CHANNEL);
    lvt_connection_leave(connection);
    return lvt_connection_check(connection, amqp_get_rpc_reply(connection->amqp), NULL, err);
}

static enum leveret_code set_up(struct lvt_connection *connection,
                                const struct lvt_connection_options *options,
                                struct leveret_error *err) {
    amqp_connection_state_t amqp = connection->amqp;
    enum leveret_code code =
        options->url->tls ? lvt_tls_connect(amqp, options->url, options->ca_file, CONNECT_MS, err)
                          : connect_plain(amqp, options, err);
    if (code != LEVERET_OK) {
        return code;
    }
    int fd = amqp_get_sockfd(amqp);
    lvt_dial_tune(fd, connection->limit_ms);
    code = lvt_watch_attach(connection->watch, fd, err);
    if (code != LEVERET_OK) {
        return code;
    }
    struct timeval handshake = timeval_of(HANDSHAKE_MS), rpc = timeval_of(RPC_MS);
    amqp_set_handshake_timeout(amqp, &handshake);
    amqp_set_rpc_timeout(amqp, &rpc);
    lvt_watch_enter(connection->watch, HANDSHAKE_MS + CALL_MS_MIN);
    code = log_in(amqp, options, err);
    lvt_watch_leave(connection->watch);
    return code == LEVERET_OK ? open_channel(connection, err) : code;
}

enum leveret_code lvt_connection_open(struct lvt_connection *connection,
                                      const struct lvt_connection_options *options,
                                      struct leveret_error *err) {
    uint64_t silence_ms = (uint64_t)options->heartbeat_s * 2500;
    connection->limit_ms = silence_ms > CALL_MS_MIN ? silence_ms : CALL_MS_MIN;
    connection->tls = options->url->tls;
    connection->amqp = amqp_new_connection();
    if (!connection->amqp) {
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    }
    enum leveret_code code = set_up(connection, options, err);
    if (code != LEVERET_OK) {
        lvt_connection_drop(connection);
    }
    return code;
}

enum leveret_code lvt_connection_reopen_channel(struct lvt_connection *connection,
                                                struct leveret_error *err) {
    amqp_channel_close_ok_t ok = {0};
    lvt_connection_enter(connection);
    int status = amqp_send_method(connection->amqp, LVT_CHANNEL, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
    lvt_connection_leave(connection);
    if (status != AMQP_STATUS_OK) {
        return lvt_connection_lost(status, err);
    }
    return open_channel(connection, err);
}

/* ---- the end ---- */

void lvt_connection_drop(struct lvt_connection *connection) {
    lvt_watch_detach(connection->watch);
    amqp_destroy_connection(connection->amqp);
    connection->amqp = NULL;
}

void lvt_connection_close(struct lvt_connection *connection) {
    struct timeval timeout = timeval_of(CLOSE_MS);
    amqp_set_rpc_timeout(connection->amqp, &timeout);
    lvt_watch_enter(connection->watch, CLOSE_MS);
    amqp_connection_close(connection->amqp, AMQP_REPLY_SUCCESS);
    lvt_watch_leave(connection->watch);
    lvt_connection_drop(connection);
}

/* ---- the server ---- */

struct lvt_bytes lvt_connection_server_version(const struct lvt_connection *connection) {
    const amqp_table_t *properties = amqp_get_server_properties(connection->amqp);
    for (int i = 0; i < properties->num_entries; i++) {
        const amqp_table_entry_t *entry = &properties->entries[i];
        if (lvt_bytes_is(lvt_from_amqp(entry->key), "version") &&
            entry->value.kind == AMQP_FIELD_KIND_UTF8) {
            return lvt_from_amqp(entry->value.value.bytes);
        }
    }
    return lvt_bytes("", 0);
}

int lvt_connection_server_major(const struct lvt_connection *connection) {
    struct lvt_bytes version = lvt_connection_server_version(connection);
    int major = 0;
    for (size_t i = 0; i < version.len && version.data[i] >= '0' && version.data[i] <= '9'; i++) {
        major = major * 10 + (version.data[i] - '0');
    }
    return major;
}
