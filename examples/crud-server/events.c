#include "events.h"

#include <inttypes.h>
#include <leveret/leveret.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "say.h"

#define WINDOW 256 /* events that are out at once */
#define WAIT_MS 5000
#define PAUSE_MS 500

struct event {
    char id[37]; /* one, however often it is sent */
    const char *type;
    char *body;
    bool sent;
    struct events *events;
};

struct events {
    struct leveret_publisher *publisher;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* there is an event, or it is time to stop */
    struct event ring[EVENTS_MAX];
    size_t first, count;
    uint64_t lost, lost_before; /* of which the log has been told */
    bool stopping;
    uint64_t stop_ms;
    /* the sending thread's: why events of this window, and of the one before it, did not get
     * through; empty: they did */
    char problem[EVENTS_PROBLEM_SIZE], last_problem[EVENTS_PROBLEM_SIZE];
};

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A UUID of version 4. */
static bool write_id(char id[37]) {
    unsigned char b[16];
    if (getrandom(b, sizeof b, 0) != sizeof b)
        return false;
    b[6] = (b[6] & 0x0F) | 0x40;
    b[8] = (b[8] & 0x3F) | 0x80;
    snprintf(id, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
             b[14], b[15]);
    return true;
}

void events_add(struct events *events, const char *type, const struct item *item) {
    struct event event = {.type = type, .body = item_event_json(type, item), .events = events};
    bool good = event.body && write_id(event.id);
    pthread_mutex_lock(&events->mutex);
    if (good && events->count < EVENTS_MAX) {
        events->ring[(events->first + events->count++) % EVENTS_MAX] = event;
        event.body = NULL;
        pthread_cond_signal(&events->changed);
    } else if (events->lost++ == events->lost_before) {
        say("%d events wait for RabbitMQ: from now on %s and its like are lost", EVENTS_MAX, type);
    }
    pthread_mutex_unlock(&events->mutex);
    free(event.body);
}

void events_status(struct events *events, struct events_status *ret_status) {
    pthread_mutex_lock(&events->mutex);
    *ret_status = (struct events_status){events->count, events->lost};
    pthread_mutex_unlock(&events->mutex);
}

/* ---- the thread that sends ---- */

/* For both of them the mutex is held. */
static bool stop_is_due(const struct events *events) {
    return events->stopping && now_ms() >= events->stop_ms;
}

static void wait_until(struct events *events, uint64_t due_ms) {
    const struct timespec due = {(time_t)(due_ms / 1000), (long)(due_ms % 1000) * 1000000};
    pthread_cond_timedwait(&events->changed, &events->mutex, &due);
}

/* How many there are to send; 0 when it is time to end. */
static size_t wait_for_events(struct events *events) {
    pthread_mutex_lock(&events->mutex);
    while (events->count == 0 && !events->stopping)
        pthread_cond_wait(&events->changed, &events->mutex);
    size_t count = stop_is_due(events) ? 0 : events->count;
    pthread_mutex_unlock(&events->mutex);
    return count < WINDOW ? count : WINDOW;
}

/* Takes off what was sent, up to the first one that was not. */
static void strike(struct events *events) {
    pthread_mutex_lock(&events->mutex);
    while (events->count > 0 && events->ring[events->first].sent) {
        free(events->ring[events->first].body);
        events->first = (events->first + 1) % EVENTS_MAX;
        events->count--;
    }
    pthread_mutex_unlock(&events->mutex);
}

/* On the publisher's thread, before leveret_publisher_drain returns. */
static void on_published(void *ctx, int32_t code, struct leveret_text id, const char *why) {
    struct event *event = ctx;
    (void)id;
    event->sent = code == LEVERET_OK;
    if (!event->sent)
        snprintf(event->events->problem, sizeof event->events->problem, "%s", why);
}

/* The slots of the ring in the window are this thread's alone. */
static void send_window(struct events *events, size_t count) {
    events->problem[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        struct event *event = &events->ring[(events->first + i) % EVENTS_MAX];
        struct leveret_error err;
        struct leveret_outgoing outgoing =
            leveret_outgoing(leveret_text_of(event->type), leveret_text_of(event->body));
        outgoing.whole = true;
        outgoing.id = leveret_text_of(event->id);
        outgoing.queue = leveret_text_of(EVENTS_QUEUE);
        if (!event->sent && leveret_publisher_publish(events->publisher, &outgoing, WAIT_MS,
                                                      on_published, event, &err) != LEVERET_OK)
            snprintf(events->problem, sizeof events->problem, "%s", err.text);
    }
    leveret_publisher_drain(events->publisher, LEVERET_FOREVER);
}

static void note_problem(struct events *events) {
    if (strcmp(events->problem, events->last_problem) != 0)
        say("events wait: %s", events->problem);
    memcpy(events->last_problem, events->problem, sizeof events->problem);
}

static void note_success(struct events *events) {
    if (events->last_problem[0] == '\0')
        return;
    events->last_problem[0] = '\0';
    pthread_mutex_lock(&events->mutex);
    uint64_t lost = events->lost - events->lost_before;
    events->lost_before = events->lost;
    pthread_mutex_unlock(&events->mutex);
    say("events get through to RabbitMQ again; %" PRIu64 " were lost", lost);
}

/* Unless it is time to end. */
static void wait_a_while(struct events *events) {
    uint64_t due_ms = now_ms() + PAUSE_MS;
    pthread_mutex_lock(&events->mutex);
    while (now_ms() < due_ms && !stop_is_due(events))
        wait_until(events, due_ms);
    pthread_mutex_unlock(&events->mutex);
}

static void *send_all(void *arg) {
    struct events *events = arg;
    size_t count;
    while ((count = wait_for_events(events)) > 0) {
        send_window(events, count);
        strike(events);
        if (events->problem[0] == '\0') {
            note_success(events);
        } else {
            note_problem(events);
            wait_a_while(events);
        }
    }
    return NULL;
}

/* ---- life ---- */

static enum leveret_code make_publisher(struct events *events, const char *rabbitmq_url,
                                        struct leveret_error *err) {
    struct leveret_config *config = NULL;
    enum leveret_code code = leveret_config_new(&config, err);
    if (code == LEVERET_OK)
        code = leveret_config_set(config, "name", "crud-server", err);
    if (code == LEVERET_OK)
        code = leveret_config_set(config, "rabbitmq.url", rabbitmq_url, err);
    if (code == LEVERET_OK)
        code = leveret_publisher_new(config, NULL, NULL, &events->publisher, err);
    leveret_config_free(config);
    return code;
}

static void init_sync(struct events *events) {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&events->mutex, NULL);
    pthread_cond_init(&events->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static void free_all(struct events *events) {
    leveret_publisher_free(events->publisher);
    for (size_t i = 0; i < events->count; i++)
        free(events->ring[(events->first + i) % EVENTS_MAX].body);
    pthread_mutex_destroy(&events->mutex);
    pthread_cond_destroy(&events->changed);
    free(events);
}

struct events *events_start(const char *rabbitmq_url, char problem[EVENTS_PROBLEM_SIZE]) {
    struct leveret_error err;
    struct events *events = calloc(1, sizeof *events);
    if (!events)
        return NULL;
    init_sync(events);
    enum leveret_code code = make_publisher(events, rabbitmq_url, &err);
    if (code == LEVERET_OK && pthread_create(&events->thread, NULL, send_all, events) == 0)
        return events;
    snprintf(problem, EVENTS_PROBLEM_SIZE, "%s",
             code == LEVERET_OK ? "no thread can be made" : err.text);
    free_all(events);
    return NULL;
}

void events_stop(struct events *events, uint64_t wait_ms) {
    if (!events)
        return;
    pthread_mutex_lock(&events->mutex);
    events->stopping = true;
    events->stop_ms = now_ms() + wait_ms;
    pthread_cond_signal(&events->changed);
    pthread_mutex_unlock(&events->mutex);
    pthread_join(events->thread, NULL);
    if (events->count > 0)
        say("%zu events that wait for RabbitMQ are lost", events->count);
    free_all(events);
}
