/* Redis, over one connection on the loop: commands, and invalidation of keys by pattern.
 *
 * All of it belongs to the loop's thread. hiredis writes to its socket without MSG_NOSIGNAL: the
 * loop runs where SIGPIPE is held (base/sigpipe.h). */
#ifndef LEVERET_CACHE_CACHE_H
#define LEVERET_CACHE_CACHE_H

#include <uv.h>

#include "base/error.h"
#include "base/log.h"
#include "engine/ports.h"

struct lvt_cache;

struct lvt_cache_options {
    /* redis://[[user]:password@]host[:port][/database] or
     * unix://[[user]:password@]/path[?db=database]; user and password may be %-escaped. */
    const char *url;
    const struct lvt_log *log; /* outlives the cache */
    uv_loop_t *loop;
};

struct lvt_cache_status {
    bool connected;
    bool refused;        /* it answers, but takes neither our credentials nor our database */
    bool failed;         /* refused, and never was connected. It has not been logged. */
    const char *address; /* without credentials */
    const char *reason;  /* why it is not connected; "" when it is. Valid until the loop goes on */
};

/* Connects to nothing. LEVERET_CONFIG when the URL cannot be used, with a text that names
 * redis.url and never holds the password. */
enum leveret_code lvt_cache_new(const struct lvt_cache_options *options,
                                struct lvt_cache **ret_cache,
                                struct leveret_error *err) LVT_MUST_CHECK;

/* Connects, and connects again for ever after a loss, with 100 ms to 5 s in between. The port may
 * be used from now on: commands asked for before the first attempt has ended wait for it, two
 * seconds at most. */
enum leveret_code lvt_cache_start(struct lvt_cache *cache,
                                  struct leveret_error *err) LVT_MUST_CHECK;

/* Valid until the cache is freed. A command without a reply for two seconds costs the connection,
 * and an outage is the answer to all that are out on it. When no memory is left to ask with, the
 * answer never comes. */
struct lvt_cache_port lvt_cache_port(struct lvt_cache *cache);

void lvt_cache_status(const struct lvt_cache *cache, struct lvt_cache_status *ret_status);

/* Answers all that is out with an outage, and calls closed (from the loop, or at once when it was
 * never started); then the cache may be freed. What is asked for after that is never answered. */
void lvt_cache_close(struct lvt_cache *cache, void (*closed)(void *ctx), void *ctx);
void lvt_cache_free(struct lvt_cache *cache);

/* Its client library and version, such as "hiredis 0.14.1". Static storage. */
const char *lvt_cache_library(void);

#endif
