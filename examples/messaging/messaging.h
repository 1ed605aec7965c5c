/* Sends what handlers/messaging handles, a function for each kind of message. Copy this file and
 * messaging.c into your program.
 *
 * Each returns when RabbitMQ has confirmed the message, and otherwise as
 * leveret_publisher_publish_wait does. From any thread. */
#ifndef MESSAGING_H
#define MESSAGING_H

#include <leveret/leveret.h>

/* Begin with all zero; NULL does for all of it, too. */
struct leveret_send_options {
    const char *id;        /* NULL: a new one. What is sent twice under one id is handled once */
    uint32_t max_attempts; /* 0: as the handler says */
    uint64_t delay_ms;
    int32_t priority; /* 0 to 9 */
    uint64_t wait_ms; /* for RabbitMQ; 0: 30 s */
};

/* body or html may be NULL, not both. */
enum leveret_code leveret_send_email(struct leveret_publisher *publisher, const char *to,
                                     const char *subject, const char *body, const char *html,
                                     const struct leveret_send_options *options,
                                     struct leveret_error *err);

/* database and path are such that the worker's configuration allows, on the worker's machine. */
enum leveret_code leveret_send_backup(struct leveret_publisher *publisher, const char *database,
                                      const char *path, bool compress,
                                      const struct leveret_send_options *options,
                                      struct leveret_error *err);

/* target is one that the worker's configuration names. */
enum leveret_code leveret_send_cleanup(struct leveret_publisher *publisher, const char *target,
                                       uint32_t days, const struct leveret_send_options *options,
                                       struct leveret_error *err);

/* type is "email", "webhook" or "app"; data is JSON, or NULL. */
enum leveret_code leveret_send_notification(struct leveret_publisher *publisher, const char *user,
                                            const char *type, const char *title,
                                            const char *message, const char *data,
                                            const struct leveret_send_options *options,
                                            struct leveret_error *err);

#endif
