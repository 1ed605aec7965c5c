/* The message that an event goes on as: into the ladder for a retry, or to the dead letters. */
#ifndef LEVERET_ENGINE_MESSAGE_H
#define LEVERET_ENGINE_MESSAGE_H

#include "base/error.h"
#include "engine/event.h"

#define LVT_HEADER_ATTEMPT "leveret-attempt"
#define LVT_HEADER_FIRST_FAILED_AT "leveret-first-failed-at"
#define LVT_HEADER_ORIGIN_EXCHANGE "leveret-origin-exchange"
#define LVT_HEADER_ORIGIN_ROUTING_KEY "leveret-origin-routing-key"
#define LVT_HEADER_ORIGIN_QUEUE "leveret-origin-queue"
#define LVT_HEADER_ERROR "leveret-error"
#define LVT_HEADER_TRACE "leveret-trace"
#define LVT_HEADER_HANDLER "leveret-handler"
#define LVT_HEADER_WAITS_FOR "leveret-waits-for" /* it met an outage of "redis" */

/* How much of a failure's story goes along. */
enum lvt_story {
    LVT_STORY_NONE,  /* it did not fail: a snooze */
    LVT_STORY_SHORT, /* a short reason: the broker did not take the full one */
    LVT_STORY_FULL,
};

/* Fills in event->publish but for its destination. Body and headers are the delivery's own, except
 * for what a broker would refuse, expire or copy the message over. Made in the delivery's arena.
 * LEVERET_NO_MEMORY is the only error. */
enum leveret_code lvt_message_build(struct lvt_event *event, uint32_t attempts_made,
                                    enum lvt_story story, int64_t wall_ms) LVT_MUST_CHECK;

#endif
