#include "publish/client.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/thread.h"
#include "base/uuid.h"
#include "broker/broker.h"
#include "engine/forward.h"
#include "engine/ports.h"

/* How often deadlines are looked at, at most. */
#define TICK_MS 100
/* Of an event that is to fail fast, when RabbitMQ is there and says nothing. */
#define FAIL_FAST_MS 30000

/* An event that is out. It lasts until the broker's side has answered, which may be long after its
 * own answer. */
struct sent {
    struct sent *prev, *next; /* of those that have no answer */
    struct lvt_publish publish;
    struct lvt_arena arena;
    size_t bytes;
    uint64_t due_ms; /* UINT64_MAX: never */
    bool fail_fast;  /* no later than RabbitMQ is known to be away */
    bool answered;
    lvt_client_done *done;
    void *ctx;
};

struct lvt_client {
    struct lvt_routes routes;
    struct lvt_outgoing_limits limits;
    char *exchange;
    struct lvt_broker *broker;
    struct lvt_broker_port port;

    pthread_mutex_t mutex;
    pthread_cond_t changed; /* there is room, or everything is answered */
    pthread_cond_t woken;   /* the client's thread has something to do */
    bool wake, stopping;
    struct sent *first, *last; /* without an answer */
    size_t unanswered, waiting_for_room;
    size_t count, bytes; /* of all that the broker's side still has */
    pthread_t thread;
    bool started;
};

/* ---- time ---- */

static uint64_t due_after(uint64_t wait_ms) {
    uint64_t now = lvt_now_ms();
    return wait_ms > UINT64_MAX - now ? UINT64_MAX : now + wait_ms;
}

/* False when the time is over. The mutex is held. */
static bool wait_until(struct lvt_client *client, pthread_cond_t *cond, uint64_t due_ms) {
    if (due_ms == UINT64_MAX)
        return pthread_cond_wait(cond, &client->mutex) == 0;
    struct timespec due = {.tv_sec = (time_t)(due_ms / 1000),
                           .tv_nsec = (long)(due_ms % 1000) * 1000000};
    return pthread_cond_timedwait(cond, &client->mutex, &due) != ETIMEDOUT;
}

/* ---- answers, on the client's thread ---- */

static void free_sent(struct sent *sent) {
    lvt_arena_free(&sent->arena);
    free(sent);
}

/* Takes it off the list; the mutex is held. */
static void unlist(struct lvt_client *client, struct sent *sent) {
    if (sent->prev)
        sent->prev->next = sent->next;
    else
        client->first = sent->next;
    if (sent->next)
        sent->next->prev = sent->prev;
    else
        client->last = sent->prev;
    sent->answered = true;
}

/* After its answer has been given: who waits for everything to be answered has seen it all then. */
static void count_answer(struct lvt_client *client) {
    pthread_mutex_lock(&client->mutex);
    if (--client->unanswered == 0)
        pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->mutex);
}

static void make_room(struct lvt_client *client, struct sent *sent) {
    pthread_mutex_lock(&client->mutex);
    bool full = client->count >= LVT_CLIENT_EVENTS_MAX || client->bytes >= LVT_CLIENT_BYTES_MAX;
    client->count--;
    client->bytes -= sent->bytes;
    if (full || client->waiting_for_room > 0)
        pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->mutex);
    free_sent(sent);
}

static void on_published(void *ctx, struct lvt_publish *list) {
    struct lvt_client *client = ctx;
    while (list) {
        struct sent *sent = LVT_CONTAINER_OF(list, struct sent, publish);
        list = list->next;
        pthread_mutex_lock(&client->mutex);
        bool first = !sent->answered;
        if (first)
            unlist(client, sent);
        pthread_mutex_unlock(&client->mutex);
        if (first) {
            enum leveret_code code = LEVERET_REFUSED;
            if (sent->publish.result == LVT_PUBLISH_CONFIRMED)
                code = LEVERET_OK;
            if (sent->publish.result == LVT_PUBLISH_DROPPED)
                code = LEVERET_UNAVAILABLE;
            sent->done(sent->ctx, code, sent->publish.properties.message_id,
                       code == LEVERET_OK ? "" : sent->publish.reason);
            count_answer(client);
        }
        make_room(client, sent);
    }
}

static enum leveret_code explain(const struct lvt_broker_status *status,
                                 struct leveret_error *err) {
    if (status->failed)
        return leveret_fail(err, status->failure.code, "%s", status->failure.text);
    if (status->blocked)
        return leveret_fail(err, LEVERET_UNAVAILABLE,
                            "RabbitMQ takes no messages now: see to its memory and disk");
    if (!status->publishing_connected && status->publish_problems > 0)
        return leveret_fail(err, LEVERET_UNAVAILABLE, "%s", status->publish_problem.text);
    return leveret_fail(err, LEVERET_UNAVAILABLE, "RabbitMQ has not confirmed it in time");
}

/* Whether nothing will be taken for a while. */
static bool is_away(const struct lvt_broker_status *status) {
    return status->blocked || (!status->publishing_connected && status->publish_problems > 0);
}

/* Answers those whose time is over; their messages are withdrawn, unless they are under way. */
static void give_up(struct lvt_client *client) {
    struct lvt_broker_status status;
    struct leveret_error err;
    lvt_broker_status(client->broker, &status);
    uint64_t now = lvt_now_ms();
    pthread_mutex_lock(&client->mutex);
    bool all = client->stopping || status.failed;
    struct sent *over = NULL, **last = &over, *next;
    for (struct sent *sent = client->first; sent; sent = next) {
        next = sent->next;
        if (!all && now < sent->due_ms && !(sent->fail_fast && is_away(&status)))
            continue;
        unlist(client, sent);
        *last = sent;
        last = &sent->next;
    }
    *last = NULL;
    pthread_mutex_unlock(&client->mutex);
    (void)explain(&status, &err);
    while (over) {
        next = over->next;
        over->done(over->ctx, err.code, over->publish.properties.message_id, err.text);
        atomic_store(&over->publish.withdrawn, true);
        count_answer(client);
        over = next;
    }
}

/* ---- the client's thread ---- */

static void on_wake(void *ctx) {
    struct lvt_client *client = ctx;
    pthread_mutex_lock(&client->mutex);
    client->wake = true;
    pthread_cond_signal(&client->woken);
    pthread_mutex_unlock(&client->mutex);
}

/* Until there are answers, or deadlines to look at. True when the client is to stop. */
static bool sleep_until_woken(struct lvt_client *client) {
    pthread_mutex_lock(&client->mutex);
    bool on_time = true;
    while (!client->wake && !client->stopping && on_time)
        on_time =
            wait_until(client, &client->woken, client->first ? lvt_now_ms() + TICK_MS : UINT64_MAX);
    client->wake = false;
    bool stopping = client->stopping;
    pthread_mutex_unlock(&client->mutex);
    return stopping;
}

static void *run(void *arg) {
    struct lvt_client *client = arg;
    uint64_t tick_ms = 0;
    while (!sleep_until_woken(client)) {
        struct lvt_broker_status status;
        lvt_broker_poll(client->broker);
        lvt_broker_status(client->broker, &status);
        /* The list is gone through when something may be over, not for each answer. */
        if (lvt_now_ms() >= tick_ms || status.failed) {
            give_up(client);
            tick_ms = lvt_now_ms() + TICK_MS;
        }
    }
    lvt_broker_stop(client->broker); /* which hands out the last answers */
    give_up(client);
    return NULL;
}

/* ---- publishing ---- */

/* Waits for a place. The mutex is held, also when it fails. */
static enum leveret_code wait_for_room(struct lvt_client *client, const struct sent *sent,
                                       struct leveret_error *err) {
    while (client->count >= LVT_CLIENT_EVENTS_MAX ||
           (client->count > 0 && client->bytes + sent->bytes > LVT_CLIENT_BYTES_MAX)) {
        if (pthread_equal(pthread_self(), client->thread))
            return leveret_fail(err, LEVERET_TOO_BIG,
                                "%zu events wait for RabbitMQ: there is no room for another",
                                client->count);
        struct lvt_broker_status status;
        lvt_broker_status(client->broker, &status);
        client->waiting_for_room++;
        bool over = (sent->fail_fast && is_away(&status)) ||
                    !wait_until(client, &client->changed, sent->due_ms);
        client->waiting_for_room--;
        if (over)
            return explain(&status, err);
    }
    return LEVERET_OK;
}

static enum leveret_code enqueue(struct lvt_client *client, struct sent *sent,
                                 struct leveret_error *err) {
    pthread_mutex_lock(&client->mutex);
    enum leveret_code code = wait_for_room(client, sent, err);
    if (code == LEVERET_OK && client->stopping)
        code = leveret_fail(err, LEVERET_STATE, "the publisher is closing");
    if (code == LEVERET_OK) {
        if (!client->first)
            pthread_cond_signal(&client->woken); /* it slept without a deadline */
        sent->prev = client->last;
        if (client->last)
            client->last->next = sent;
        else
            client->first = sent;
        client->last = sent;
        client->unanswered++;
        client->count++;
        client->bytes += sent->bytes;
        client->port.publish(client->port.self, &sent->publish);
        client->port.flush(client->port.self);
    }
    pthread_mutex_unlock(&client->mutex);
    return code;
}

static enum leveret_code build(struct lvt_client *client, const struct lvt_outgoing *asked,
                               struct sent *sent, struct leveret_error *err) {
    struct lvt_outgoing outgoing = *asked;
    char id[LVT_UUID_SIZE];
    int64_t wall = lvt_wall_ms();
    if (outgoing.id.len == 0) {
        lvt_uuid7((uint64_t)wall, id);
        outgoing.id = lvt_bytes_of(id);
    }
    enum leveret_code code = lvt_outgoing_check(&outgoing, &client->limits, err);
    if (code == LEVERET_OK)
        code = lvt_outgoing_copy(&outgoing, &sent->arena, &outgoing);
    if (code == LEVERET_OK)
        code = lvt_outgoing_build(&outgoing, &client->limits, wall, &sent->arena, &sent->publish);
    sent->bytes = sizeof *sent + 2 * asked->payload.len + 1024;
    return code == LEVERET_NO_MEMORY ? leveret_fail(err, code, "out of memory") : code;
}

enum leveret_code lvt_client_publish(struct lvt_client *client, const struct lvt_outgoing *outgoing,
                                     uint64_t wait_ms, lvt_client_done *done, void *ctx,
                                     struct leveret_error *err) {
    struct sent *sent = calloc(1, sizeof *sent);
    if (!sent)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    lvt_arena_init(&sent->arena, 2 * outgoing->payload.len + 1024);
    sent->done = done;
    sent->ctx = ctx;
    sent->fail_fast = wait_ms == 0;
    sent->due_ms = due_after(sent->fail_fast ? FAIL_FAST_MS : wait_ms);
    enum leveret_code code = build(client, outgoing, sent, err);
    if (code == LEVERET_OK)
        code = enqueue(client, sent, err);
    if (code != LEVERET_OK)
        free_sent(sent);
    return code;
}

struct waiter {
    struct lvt_client *client;
    bool answered;
    struct leveret_error answer;
    char id[LVT_CLIENT_ID_SIZE];
};

static void wait_over(void *ctx, enum leveret_code code, struct lvt_bytes id, const char *text) {
    struct waiter *waiter = ctx;
    pthread_mutex_lock(&waiter->client->mutex);
    leveret_fail(&waiter->answer, code, "%s", text);
    snprintf(waiter->id, sizeof waiter->id, "%.*s", (int)id.len, id.data);
    waiter->answered = true;
    pthread_cond_broadcast(&waiter->client->changed);
    pthread_mutex_unlock(&waiter->client->mutex);
}

enum leveret_code lvt_client_publish_wait(struct lvt_client *client,
                                          const struct lvt_outgoing *outgoing, uint64_t wait_ms,
                                          char ret_id[LVT_CLIENT_ID_SIZE],
                                          struct leveret_error *err) {
    struct waiter waiter = {.client = client};
    enum leveret_code code = lvt_client_publish(client, outgoing, wait_ms, wait_over, &waiter, err);
    if (code != LEVERET_OK)
        return code;
    pthread_mutex_lock(&client->mutex);
    while (!waiter.answered)
        wait_until(client, &client->changed, UINT64_MAX);
    pthread_mutex_unlock(&client->mutex);
    if (waiter.answer.code != LEVERET_OK)
        return leveret_fail(err, waiter.answer.code, "%s", waiter.answer.text);
    if (ret_id)
        memcpy(ret_id, waiter.id, sizeof waiter.id);
    return LEVERET_OK;
}

bool lvt_client_drain(struct lvt_client *client, uint64_t wait_ms) {
    uint64_t due_ms = due_after(wait_ms);
    pthread_mutex_lock(&client->mutex);
    while (client->unanswered > 0 && wait_until(client, &client->changed, due_ms))
        ;
    bool empty = client->unanswered == 0;
    pthread_mutex_unlock(&client->mutex);
    return empty;
}

void lvt_client_status(struct lvt_client *client, struct lvt_client_status *ret_status) {
    struct lvt_broker_status status;
    lvt_broker_status(client->broker, &status);
    *ret_status = (struct lvt_client_status){
        .connected = status.publishing_connected,
        .blocked = status.blocked,
    };
    if (status.failed || is_away(&status))
        (void)explain(&status, &ret_status->problem);
    pthread_mutex_lock(&client->mutex);
    ret_status->pending = client->unanswered;
    pthread_mutex_unlock(&client->mutex);
}

/* ---- life ---- */

static enum leveret_code make_broker(struct lvt_client *client, const struct lvt_config *config,
                                     const struct lvt_log *log, struct leveret_error *err) {
    const struct lvt_broker_options options = {
        .url = config->rabbitmq.url,
        .ca_file = config->rabbitmq.ca_file,
        .heartbeat_s = config->rabbitmq.heartbeat_s,
        .name = config->name,
        .routes = &client->routes,
        .max_body_bytes = config->max_body_bytes,
        .publish_only = true,
        .log = log,
        .sink = {.ctx = client, .published = on_published},
        .wake = on_wake,
        .wake_ctx = client,
    };
    enum leveret_code code = lvt_forward_add(config, &client->routes, err);
    if (code == LEVERET_OK)
        code = lvt_broker_new(&options, &client->broker, err);
    if (code == LEVERET_OK)
        client->port = lvt_broker_port(client->broker);
    return code;
}

static enum leveret_code start(struct lvt_client *client, struct leveret_error *err) {
    enum leveret_code code = lvt_broker_start(client->broker, err);
    if (code != LEVERET_OK)
        return code;
    code = lvt_thread_start(&client->thread, 0, run, client, err);
    client->started = code == LEVERET_OK;
    if (!client->started)
        lvt_broker_stop(client->broker);
    return code;
}

static void init_sync(struct lvt_client *client) {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&client->mutex, NULL);
    pthread_cond_init(&client->changed, &monotonic);
    pthread_cond_init(&client->woken, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

enum leveret_code lvt_client_new(const struct lvt_config *config, const struct lvt_log *log,
                                 struct lvt_client **ret_client, struct leveret_error *err) {
    struct lvt_client *client = calloc(1, sizeof *client);
    if (!client)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    init_sync(client);
    client->exchange = strdup(config->rabbitmq.exchange);
    client->limits = (struct lvt_outgoing_limits){.exchange = client->exchange,
                                                  .max_body_bytes = config->max_body_bytes,
                                                  .max_delay_ms = config->limits.max_delay_ms,
                                                  .max_attempts = config->limits.max_attempts};
    enum leveret_code code = client->exchange
                                 ? make_broker(client, config, log, err)
                                 : leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    if (code == LEVERET_OK)
        code = start(client, err);
    if (code != LEVERET_OK) {
        lvt_client_free(client);
        return code;
    }
    *ret_client = client;
    return LEVERET_OK;
}

void lvt_client_free(struct lvt_client *client) {
    if (!client)
        return;
    if (client->started) {
        pthread_mutex_lock(&client->mutex);
        client->stopping = true;
        pthread_cond_broadcast(&client->woken);
        pthread_mutex_unlock(&client->mutex);
        pthread_join(client->thread, NULL);
    }
    lvt_broker_free(client->broker);
    lvt_routes_free(&client->routes);
    pthread_mutex_destroy(&client->mutex);
    pthread_cond_destroy(&client->changed);
    pthread_cond_destroy(&client->woken);
    free(client->exchange);
    free(client);
}
