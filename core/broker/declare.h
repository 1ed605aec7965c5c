/* Single declarations, and what is wrong when the broker refuses one. Used by the thread that owns
 * the topology connection. After a refusal the channel is open again. */
#ifndef LEVERET_BROKER_DECLARE_H
#define LEVERET_BROKER_DECLARE_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/connection.h"

#define LVT_ARGUMENTS_MAX 8

/* Arguments of a queue or exchange. */
struct lvt_arguments {
    amqp_table_entry_t items[LVT_ARGUMENTS_MAX];
    int count;
};

void lvt_argument_text(struct lvt_arguments *arguments, const char *key, const char *value);
void lvt_argument_number(struct lvt_arguments *arguments, const char *key, int64_t value);
/* Those of every quorum queue that leveret declares. */
void lvt_quorum_arguments(struct lvt_arguments *arguments);

/* How the broker answered. */
struct lvt_refusal {
    int code; /* a reply code, when the broker refused; 0 otherwise */
    char text[300];
};

/* All return LEVERET_OK, LEVERET_REFUSED with *ret_refusal filled in, or another code when the
 * connection is of no more use. Everything declared is durable. */

enum leveret_code lvt_declare_exchange(struct lvt_connection *connection, const char *name,
                                       const char *type, const struct lvt_arguments *arguments,
                                       struct lvt_refusal *ret_refusal, struct leveret_error *err);
/* Whether it is there, whatever it is like. */
enum leveret_code lvt_look_for_exchange(struct lvt_connection *connection, const char *name,
                                        struct lvt_refusal *ret_refusal, struct leveret_error *err);
enum leveret_code lvt_declare_queue(struct lvt_connection *connection, const char *name,
                                    const struct lvt_arguments *arguments,
                                    struct lvt_refusal *ret_refusal, struct leveret_error *err);
/* As lvt_look_for_exchange; how many messages are ready, and how many consumers there are. */
enum leveret_code lvt_look_for_queue(struct lvt_connection *connection, const char *name,
                                     uint32_t *ret_depth, uint32_t *ret_consumers,
                                     struct lvt_refusal *ret_refusal, struct leveret_error *err);
enum leveret_code lvt_bind_queue(struct lvt_connection *connection, const char *queue,
                                 const char *exchange, const char *key,
                                 struct lvt_refusal *ret_refusal, struct leveret_error *err);
enum leveret_code lvt_bind_exchange(struct lvt_connection *connection, const char *destination,
                                    const char *source, const char *key,
                                    struct lvt_refusal *ret_refusal, struct leveret_error *err);

/* The argument that the refused declaration and what exists differ in, with both values. False
 * when the refusal is about something else. */
struct lvt_mismatch {
    char argument[64];
    char wanted[100], found[100];
};
bool lvt_mismatch_read(const struct lvt_refusal *refusal, struct lvt_mismatch *ret);

#endif
