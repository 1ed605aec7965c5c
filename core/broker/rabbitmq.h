/* The one place that includes the client library, which moved its headers in 0.13. */
#ifndef LEVERET_BROKER_RABBITMQ_H
#define LEVERET_BROKER_RABBITMQ_H

#include <sys/time.h>

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

#include "base/bytes.h"

/* Each connection has one channel: the library mixes the frames of several up. */
#define LVT_CHANNEL 1

/* The largest short string of the protocol: names, routing keys, most properties. */
#define LVT_SHORT_MAX 255

static inline amqp_bytes_t lvt_to_amqp(struct lvt_bytes bytes) {
    return (amqp_bytes_t){.len = bytes.len, .bytes = (void *)(uintptr_t)bytes.data};
}

static inline struct lvt_bytes lvt_from_amqp(amqp_bytes_t bytes) {
    return lvt_bytes(bytes.bytes, bytes.len);
}

#endif
