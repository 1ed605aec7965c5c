/* The handler of leveret.outgoing: events that were published with a delay come out of the ladder
 * there, and go on to where they were meant to go. */
#ifndef LEVERET_ENGINE_FORWARD_H
#define LEVERET_ENGINE_FORWARD_H

#include "base/error.h"
#include "config/config.h"
#include "engine/routes.h"

/* Adds it, and its queue, to the routes. */
enum leveret_code lvt_forward_add(const struct lvt_config *config, struct lvt_routes *routes,
                                  struct leveret_error *err) LVT_MUST_CHECK;

#endif
