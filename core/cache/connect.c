/* Finds the server, greets it, notices its loss, and tries again. */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/private.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 2000
#define PING_MS 5000

static void forget_addresses(struct lvt_cache *cache) {
    uv_freeaddrinfo(cache->addresses);
    cache->addresses = cache->next_address = NULL;
}

static uint64_t backoff_ms(unsigned failures) {
    uint64_t limit = failures < 5 ? (uint64_t)BACKOFF_MIN_MS << failures : BACKOFF_MAX_MS;
    uint32_t random = 0;
    uv_random(NULL, NULL, &random, sizeof random, 0, NULL); /* without it, just no jitter */
    return BACKOFF_MIN_MS + random % (limit - BACKOFF_MIN_MS + 1);
}

static void ponged(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                   const char *error) {
    (void)ctx, (void)answer, (void)reply, (void)error;
}

/* Without traffic nothing would notice a server that hangs, or that is gone without a word. */
static void ping(struct lvt_cache *cache) {
    const struct lvt_bytes argv[] = {LVT_LITERAL("PING")};
    if (!cache->sent.first)
        lvt_cache_send_now(cache, argv, 1, ponged, NULL);
}

/* The next attempt, or the next PING. */
static void wake(uv_timer_t *timer) {
    struct lvt_cache *cache = timer->data;
    if (cache->state == LVT_CACHE_READY)
        ping(cache);
    else if (cache->state == LVT_CACHE_AWAY)
        lvt_cache_connect(cache);
}

static void lost(struct lvt_cache *cache, const char *reason, bool refused) {
    bool was_ready = cache->state == LVT_CACHE_READY;
    char text[sizeof cache->reason];
    snprintf(text, sizeof text, "%s", reason && *reason ? reason : "the connection was lost");
    cache->connection = NULL;
    cache->state = cache->closing ? LVT_CACHE_IDLE : LVT_CACHE_AWAY;
    if (!cache->closing && !was_ready && cache->next_address) {
        uv_timer_start(&cache->wake_timer, wake, 0, 0);
        return;
    }
    forget_addresses(cache);
    bool news = was_ready || strcmp(text, cache->reason) != 0;
    memcpy(cache->reason, text, sizeof text);
    cache->refused = refused;
    cache->known_away = true;
    lvt_cache_release_held(cache);
    if (cache->closing)
        return;
    /* A first refusal is the host's to report: trying again may not be what it wants. */
    if (cache->was_ready || !refused)
        lvt_logf(cache->log, news ? LVT_WARN : LVT_DEBUG,
                 refused
                     ? "Redis at %s refuses us: %s; check redis.url. Trying again until it accepts"
                     : "Redis at %s is away: %s. Trying again until it is back",
                 cache->address, cache->reason);
    uv_timer_start(&cache->wake_timer, wake, backoff_ms(cache->failures), 0);
    cache->failures++;
}

void lvt_cache_lost(struct lvt_cache *cache, const char *reason) {
    lost(cache, reason, false);
}

static void hang_up(struct lvt_cache *cache, const char *reason, bool refused) {
    redisAsyncContext *connection = cache->connection;
    if (cache->closing || connection)
        lost(cache, reason, refused);
    if (connection)
        redisAsyncFree(connection);
}

void lvt_cache_hang_up(struct lvt_cache *cache, const char *reason) {
    hang_up(cache, reason, false);
}

static void gone(void *ctx, redisAsyncContext *connection) {
    struct lvt_cache *cache = ctx;
    if (cache->connection == connection)
        lvt_cache_lost(cache, connection->errstr);
}

static void detached(void *ctx) {
    lvt_cache_handle_closed(ctx);
}

static void ready(struct lvt_cache *cache) {
    cache->state = LVT_CACHE_READY;
    cache->known_away = cache->refused = false;
    cache->was_ready = true;
    cache->reason[0] = 0;
    forget_addresses(cache);
    uv_timer_start(&cache->wake_timer, wake, PING_MS, PING_MS);
    lvt_logf(cache->log, LVT_INFO, "connected to Redis at %s", cache->address);
    lvt_cache_release_held(cache);
}

static void greeted(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                    const char *error) {
    struct lvt_cache *cache = ctx;
    (void)reply;
    if (cache->state != LVT_CACHE_GREETING)
        return;
    cache->greetings--;
    if (answer != LVT_ANSWER_OK) {
        cache->next_address = NULL; /* it is the right server that says no */
        hang_up(cache, error, answer == LVT_ANSWER_ERROR);
    } else if (cache->greetings == 0) {
        ready(cache);
    }
}

static void greet(struct lvt_cache *cache) {
    const struct lvt_redis_url *url = &cache->url;
    char database[16];
    snprintf(database, sizeof database, "%u", url->database);
    const struct lvt_bytes auth[] = {LVT_LITERAL("AUTH"),
                                     lvt_bytes_of(url->user ? url->user : url->password),
                                     lvt_bytes_of(url->password)};
    const struct lvt_bytes select[] = {LVT_LITERAL("SELECT"), lvt_bytes_of(database)};
    const struct lvt_bytes greeting[] = {LVT_LITERAL("PING")};

    cache->state = LVT_CACHE_GREETING;
    cache->greetings = 1u + (url->password != NULL) + (url->database != 0);
    bool sent = true;
    if (url->password)
        sent = lvt_cache_send_now(cache, auth, url->user ? 3 : 2, greeted, cache);
    if (sent && url->database != 0)
        sent = lvt_cache_send_now(cache, select, 2, greeted, cache);
    if (sent) /* a server may accept and hang */
        sent = lvt_cache_send_now(cache, greeting, 1, greeted, cache);
    if (!sent)
        lvt_cache_hang_up(cache, "out of memory");
}

static void open_connection(struct lvt_cache *cache, redisAsyncContext *connection) {
    if (!connection) {
        lvt_cache_lost(cache, "out of memory");
        return;
    }
    if (connection->err) {
        lvt_cache_lost(cache, connection->errstr);
        redisAsyncFree(connection);
        return;
    }
    if (!lvt_attach(connection, cache->loop, gone, detached, cache)) {
        lvt_cache_lost(cache, "its socket cannot be watched");
        redisAsyncFree(connection);
        return;
    }
    cache->handles++;
    cache->connection = connection;
    greet(cache);
}

static void connect_next(struct lvt_cache *cache) {
    const struct addrinfo *address = cache->next_address;
    cache->next_address = address->ai_next;
    char host[NI_MAXHOST];
    int status = getnameinfo(address->ai_addr, address->ai_addrlen, host, sizeof host, NULL, 0,
                             NI_NUMERICHOST);
    if (status != 0)
        lvt_cache_lost(cache, gai_strerror(status));
    else /* of a numeric address: hiredis's own look-up, which blocks, has nothing to look up */
        open_connection(cache, redisAsyncConnect(host, atoi(cache->url.port)));
}

static void resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *addresses) {
    struct lvt_cache *cache = request->data;
    cache->resolving = false;
    if (cache->closing) {
        uv_freeaddrinfo(addresses);
    } else if (status < 0) {
        lvt_cache_lost(cache, uv_strerror(status));
    } else {
        cache->addresses = cache->next_address = addresses;
        connect_next(cache);
    }
    lvt_cache_handle_closed(cache);
}

void lvt_cache_connect(struct lvt_cache *cache) {
    cache->state = LVT_CACHE_RESOLVING;
    if (cache->url.path) {
        open_connection(cache, redisAsyncConnectUnix(cache->url.path));
        return;
    }
    if (cache->next_address) {
        connect_next(cache);
        return;
    }
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    cache->resolve.data = cache;
    int status = uv_getaddrinfo(cache->loop, &cache->resolve, resolved, cache->url.host,
                                cache->url.port, &hints);
    if (status < 0) {
        lvt_cache_lost(cache, uv_strerror(status));
        return;
    }
    cache->resolving = true;
    cache->handles++;
}
