/* A cache inside the process, for `leveret run --embedded` and unit tests. Of Redis's commands it
 * knows GET, SET (key and value), DEL, UNLINK, EXISTS, INCR and INCRBY. */
#ifndef LEVERET_MEMORY_MEMORY_CACHE_H
#define LEVERET_MEMORY_MEMORY_CACHE_H

#include "base/error.h"
#include "engine/ports.h"

/* Of keys and values together; a SET over it is an error. */
#define LVT_MEMORY_CACHE_BYTES_MAX (64u << 20)

struct lvt_memory_cache;

/* LEVERET_NO_MEMORY is the only error. */
enum leveret_code lvt_memory_cache_new(struct lvt_memory_cache **ret_cache,
                                       struct leveret_error *err) LVT_MUST_CHECK;
/* What was asked for and not answered never is. NULL is fine. */
void lvt_memory_cache_free(struct lvt_memory_cache *cache);
struct lvt_cache_port lvt_memory_cache_port(struct lvt_memory_cache *cache);

/* Hands all answers to their askers. */
void lvt_memory_cache_poll(struct lvt_memory_cache *cache);
/* Whether poll has something to hand over. */
bool lvt_memory_cache_pending(const struct lvt_memory_cache *cache);

/* For tests and simulation: away, every answer is an outage. */
void lvt_memory_cache_set_ready(struct lvt_memory_cache *cache, bool ready);

#endif
