/* A connection over TLS 1.2 or newer, to a peer whose certificate and host name are verified. */
#ifndef LEVERET_BROKER_TLS_H
#define LEVERET_BROKER_TLS_H

#include "broker/rabbitmq.h"
#include "broker/url.h"

/* OpenSSL begins, and with it what it does at exit: before that of whoever comes later. */
void lvt_tls_begin(void);

/* ca_file NULL: the system's authorities. LEVERET_CONFIG: the peer is not who it should be, or
 * cannot prove it; the text says what to do. LEVERET_UNAVAILABLE: it cannot be reached. */
enum leveret_code lvt_tls_connect(amqp_connection_state_t amqp, const struct lvt_amqp_url *url,
                                  const char *ca_file, uint64_t timeout_ms,
                                  struct leveret_error *err) LVT_MUST_CHECK;

#endif
