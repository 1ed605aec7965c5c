/* Keeps what the worker needs of a vhost in place, and asks for the depths of the queues. */
#ifndef LEVERET_BROKER_TOPOLOGY_H
#define LEVERET_BROKER_TOPOLOGY_H

#include "broker/shared.h"

enum leveret_code lvt_topology_new(struct lvt_broker *broker, struct lvt_topology **ret,
                                   struct leveret_error *err) LVT_MUST_CHECK;
void lvt_topology_free(struct lvt_topology *topology);

extern const struct lvt_link_work lvt_topology_work;

/* From any thread. Something may be missing: look again. Returns a ticket. */
uint64_t lvt_topology_request(struct lvt_broker *broker);
/* Whether everything has been looked at since that ticket (0: once at all), and this work queue
 * was in order. */
bool lvt_topology_ready(struct lvt_broker *broker, size_t queue, uint64_t ticket);

#endif
