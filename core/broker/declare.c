#include "broker/declare.h"

#include <stdio.h>
#include <string.h>

/* As often as a message may be delivered: RabbitMQ 4 drops it after 20 unless told otherwise. */
#define DELIVERY_LIMIT 1000000

void lvt_argument_text(struct lvt_arguments *arguments, const char *key, const char *value) {
    arguments->items[arguments->count++] = (amqp_table_entry_t){
        .key = amqp_cstring_bytes(key),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(value)}};
}

void lvt_argument_number(struct lvt_arguments *arguments, const char *key, int64_t value) {
    arguments->items[arguments->count++] = (amqp_table_entry_t){
        .key = amqp_cstring_bytes(key), .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = value}};
}

void lvt_quorum_arguments(struct lvt_arguments *arguments) {
    lvt_argument_text(arguments, "x-queue-type", "quorum");
    lvt_argument_number(arguments, "x-delivery-limit", DELIVERY_LIMIT);
}

static amqp_table_t table_of(const struct lvt_arguments *arguments) {
    if (!arguments) {
        return amqp_empty_table;
    }
    return (amqp_table_t){arguments->count, (amqp_table_entry_t *)(uintptr_t)arguments->items};
}

/* Takes the answer of the call that was just made. */
static enum leveret_code take_answer(struct lvt_connection *connection,
                                     struct lvt_refusal *ret_refusal, struct leveret_error *err) {
    struct leveret_error said;
    int closed;
    lvt_connection_leave(connection);
    *ret_refusal = (struct lvt_refusal){0};
    enum leveret_code code =
        lvt_connection_check(connection, amqp_get_rpc_reply(connection->amqp), &closed, &said);
    if (closed == 0) {
        if (code != LEVERET_OK) {
            *err = said;
        }
        return code;
    }
    code = lvt_connection_reopen_channel(connection, err);
    if (code != LEVERET_OK) {
        return code;
    }
    ret_refusal->code = closed;
    snprintf(ret_refusal->text, sizeof ret_refusal->text, "%.*s", (int)sizeof ret_refusal->text - 1,
             said.text);
    return LEVERET_REFUSED;
}

static enum leveret_code exchange(struct lvt_connection *connection, const char *name,
                                  const char *type, bool passive,
                                  const struct lvt_arguments *arguments,
                                  struct lvt_refusal *ret_refusal, struct leveret_error *err) {
    lvt_connection_enter(connection);
    amqp_exchange_declare(connection->amqp, LVT_CHANNEL, amqp_cstring_bytes(name),
                          amqp_cstring_bytes(type), passive, true, false, false,
                          table_of(arguments));
    return take_answer(connection, ret_refusal, err);
}

enum leveret_code lvt_declare_exchange(struct lvt_connection *connection, const char *name,
                                       const char *type, const struct lvt_arguments *arguments,
                                       struct lvt_refusal *ret_refusal, struct leveret_error *err) {
    return exchange(connection, name, type, false, arguments, ret_refusal, err);
}

enum leveret_code lvt_look_for_exchange(struct lvt_connection *connection, const char *name,
                                        struct lvt_refusal *ret_refusal,
                                        struct leveret_error *err) {
    return exchange(connection, name, "topic", true, NULL, ret_refusal, err);
}

enum leveret_code lvt_declare_queue(struct lvt_connection *connection, const char *name,
                                    const struct lvt_arguments *arguments,
                                    struct lvt_refusal *ret_refusal, struct leveret_error *err) {
    lvt_connection_enter(connection);
    amqp_queue_declare(connection->amqp, LVT_CHANNEL, amqp_cstring_bytes(name), false, true, false,
                       false, table_of(arguments));
    return take_answer(connection, ret_refusal, err);
}

enum leveret_code lvt_look_for_queue(struct lvt_connection *connection, const char *name,
                                     uint32_t *ret_depth, uint32_t *ret_consumers,
                                     struct lvt_refusal *ret_refusal, struct leveret_error *err) {
    lvt_connection_enter(connection);
    const amqp_queue_declare_ok_t *ok =
        amqp_queue_declare(connection->amqp, LVT_CHANNEL, amqp_cstring_bytes(name), true, true,
                           false, false, amqp_empty_table);
    uint32_t depth = ok ? ok->message_count : 0, consumers = ok ? ok->consumer_count : 0;
    enum leveret_code code = take_answer(connection, ret_refusal, err);
    if (code == LEVERET_OK) {
        *ret_depth = depth;
        *ret_consumers = consumers;
    }
    return code;
}

enum leveret_code lvt_bind_queue(struct lvt_connection *connection, const char *queue,
                                 const char *exchange_, const char *key,
                                 struct lvt_refusal *ret_refusal, struct leveret_error *err) {
    lvt_connection_enter(connection);
    amqp_queue_bind(connection->amqp, LVT_CHANNEL, amqp_cstring_bytes(queue),
                    amqp_cstring_bytes(exchange_), amqp_cstring_bytes(key), amqp_empty_table);
    return take_answer(connection, ret_refusal, err);
}

enum leveret_code lvt_bind_exchange(struct lvt_connection *connection, const char *destination,
                                    const char *source, const char *key,
                                    struct lvt_refusal *ret_refusal, struct leveret_error *err) {
    lvt_connection_enter(connection);
    amqp_exchange_bind(connection->amqp, LVT_CHANNEL, amqp_cstring_bytes(destination),
                       amqp_cstring_bytes(source), amqp_cstring_bytes(key), amqp_empty_table);
    return take_answer(connection, ret_refusal, err);
}

/* ---- "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received the value 'quorum' of
 * type 'longstr' but current is none" ---- */

/* Copies what is between two texts, from *at on, and moves *at behind it. */
static bool between(const char **at, const char *before, const char *after, char *out,
                    size_t size) {
    const char *begin = strstr(*at, before);
    if (!begin) {
        return false;
    }
    begin += strlen(before);
    const char *end = *after ? strstr(begin, after) : begin + strlen(begin);
    if (!end) {
        return false;
    }
    snprintf(out, size, "%.*s", (int)(end - begin), begin);
    *at = end;
    return true;
}

/* "the value 'quorum' of type 'longstr'" becomes "'quorum'"; "none" stays. */
static void shorten(char *value) {
    static const char lead[] = "the value ";
    if (strncmp(value, lead, sizeof lead - 1) != 0) {
        return;
    }
    memmove(value, value + sizeof lead - 1, strlen(value) - (sizeof lead - 1) + 1);
    char *type = strstr(value, " of type ");
    if (type) {
        *type = '\0';
    }
}

bool lvt_mismatch_read(const struct lvt_refusal *refusal, struct lvt_mismatch *ret) {
    const char *at = refusal->text;
    if (refusal->code != AMQP_PRECONDITION_FAILED ||
        !between(&at, "inequivalent arg '", "'", ret->argument, sizeof ret->argument) ||
        !between(&at, "received ", " but current is ", ret->wanted, sizeof ret->wanted) ||
        !between(&at, " but current is ", "", ret->found, sizeof ret->found)) {
        return false;
    }
    shorten(ret->wanted);
    shorten(ret->found);
    return true;
}
