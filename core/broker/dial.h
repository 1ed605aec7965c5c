/* A TCP connection to a host, with a deadline and an error that names the reason. */
#ifndef LEVERET_BROKER_DIAL_H
#define LEVERET_BROKER_DIAL_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/error.h"

/* A non-blocking socket, or LEVERET_UNAVAILABLE. Setting *cancel ends it early. */
enum leveret_code lvt_dial(const char *host, int port, uint64_t timeout_ms,
                           const atomic_bool *cancel, int *ret_fd,
                           struct leveret_error *err) LVT_MUST_CHECK;

/* What is sent and not acknowledged for that long ends the connection. */
void lvt_dial_tune(int fd, uint64_t user_timeout_ms);

#endif
