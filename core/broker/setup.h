/* What the worker needs of a vhost, declared and checked in one pass: exchanges, queues, bindings,
 * dead-letter queues, and the delay ladder. */
#ifndef LEVERET_BROKER_SETUP_H
#define LEVERET_BROKER_SETUP_H

#include "broker/connection.h"
#include "broker/shared.h"

/* Goes on past what is wrong with a part, and puts the first such error into *ret_problem (code
 * LEVERET_OK: there was none). Fails only when the connection is of no more use. */
enum leveret_code lvt_setup(struct lvt_broker *broker, struct lvt_connection *connection,
                            struct leveret_error *ret_problem,
                            struct leveret_error *err) LVT_MUST_CHECK;

#endif
