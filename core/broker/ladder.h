/* The ladder of delay queues: where a message enters it for a given delay, and what its parts are
 * called. One level for each power of two of a tick; a message waits in the levels of its delay's
 * one-bits, from the highest down, and passes by the others. All workers of a vhost share it.
 *
 * The routing key is one word per level, lowest first and none above the level that the message
 * enters at ("w": wait here, "p": pass to the next, "e": no one-bit is left, to the end), and the
 * hash of the destination queue's name as the last word, which has one length whatever the name's.
 * RabbitMQ looks each word up three times in each exchange on the way: that, with long keys through
 * more exchanges, was half of what a retry cost it.
 *
 * Keys were 24 words of "1" and "0" once, highest first. The bindings for those may stand beside
 * ours, for older workers and for what waits still: none fits a key of the other kind. */
#ifndef LEVERET_BROKER_LADDER_H
#define LEVERET_BROKER_LADDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "engine/outgoing.h"

#define LVT_LADDER_LEVELS 24
#define LVT_LADDER_TICK_MS 250
#define LVT_LADDER_TICKS_MAX ((UINT32_C(1) << LVT_LADDER_LEVELS) - 1)
#define LVT_LADDER_MAX_MS ((uint64_t)LVT_LADDER_TICKS_MAX * LVT_LADDER_TICK_MS) /* 48 days */

/* The topic exchange at the end, bound once per work queue. */
#define LVT_LADDER_END "leveret.delay.due"
/* Where a message goes that the ladder can route nowhere: a fanout exchange and its queue. */
#define LVT_LADDER_UNDELIVERED LVT_UNDELIVERED_QUEUE

#define LVT_LADDER_NAME_SIZE 32
#define LVT_LADDER_KEY_SIZE 80

/* What a level's word says. */
enum lvt_ladder_step {
    LVT_LADDER_WAIT = 'w',
    LVT_LADDER_PASS = 'p', /* not at the lowest level: nothing is left below it */
    LVT_LADDER_LEAVE = 'e',
};

struct lvt_ladder_entry {
    char exchange[LVT_LADDER_NAME_SIZE];
    char routing_key[LVT_LADDER_KEY_SIZE];
};

/* Never early: a delay is rounded up to the tick. One over the maximum is cut to it. */
uint32_t lvt_ladder_ticks(uint64_t delay_ms);

/* False when the delay is no tick at all: the message goes to its queue directly. */
bool lvt_ladder_enter(uint64_t delay_ms, struct lvt_bytes queue, struct lvt_ladder_entry *ret);

/* A level's exchange and queue have the same name. */
void lvt_ladder_name(unsigned level, char name[LVT_LADDER_NAME_SIZE]);
uint32_t lvt_ladder_ttl_ms(unsigned level);
/* The binding key of a level's exchange: to its own queue, to the next level, or to the end. */
void lvt_ladder_pattern(unsigned level, enum lvt_ladder_step step, char key[LVT_LADDER_KEY_SIZE]);
/* The binding key of LVT_LADDER_END for a work queue. */
void lvt_ladder_end_pattern(struct lvt_bytes queue, char key[LVT_LADDER_KEY_SIZE]);

#endif
