/* Whether an event that takes long is still to be handled. */
#ifndef LEVERET_PLUGINS_WANTED_H
#define LEVERET_PLUGINS_WANTED_H

#include "leveret/plugin.h"

/* No longer once it has timed out, or its worker ends: then effects are cancelled, of which this is
 * the cheapest. The lane's thread has to answer, so: some times a second, not for every byte. For
 * blocking plugins. */
static inline bool lvt_event_is_wanted(const struct leveret_host *host,
                                       const struct leveret_event *event) {
    return host->sleep(*event, 0, NULL, NULL)->status != LEVERET_STATUS_CANCELLED;
}

#endif
