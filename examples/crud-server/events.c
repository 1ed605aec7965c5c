#include "events.h"

#include <errno.h>
#include <leveret/leveret.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "say.h"

#define WINDOW 256 /* events that are out at once */
#define PAUSE_MS 500

struct event {
    char id[37]; /* one, however often it is sent */
    const char *type;
    char *body;
    bool sent;
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
    char problem[200]; /* the thread's: why the last ones did not get through; empty: they did */
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
    struct event event = {.type = type, .body = item_event_json(type, item)};
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

/* The mutex is held. */
static void wait_until(struct events *events, uint64_t due_ms) {
    const struct timespec due = {(time_t)(due_ms / 1000), (long)(due_ms % 1000) * 1000000};
    pthread_cond_timedwait(&events->changed, &events->mutex, &due);
}

/* How many there are to send; 0 when it is time to end. */
static size_t wait_for_events(struct events *events) {
    pthread_mutex_lock(&events->mutex);
    while (events->count == 0 && !events->stopping)
        pthread_cond_wait(&events->changed, &events->mutex);
    bool over = events->stopping && now_ms() >= events->stop_ms;
    size_t count = over ? 0 : events->count;
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

static void pause_after(struct events *events, const char *problem) {
    if (strcmp(events->problem, problem) != 0)
        say("events wait: %s", problem);
    snprintf(events->problem, sizeof events->problem, "%s", problem);
    uint64_t due_ms = now_ms() + PAUSE_MS;
    pthread_mutex_lock(&events->mutex);
    while (now_ms() < due_ms && !(events->stopping && now_ms() >= events->stop_ms))
        wait_until(events, due_ms);
    pthread_mutex_unlock(&events->mutex);
}

static void note_success(struct events *events) {
    if (events->problem[0] == '\0')
        return;
    events->problem[0] = '\0';
    pthread_mutex_lock(&events->mutex);
    uint64_t lost = events->lost - events->lost_before;
    events->lost_before = events->lost;
    pthread_mutex_unlock(&events->mutex);
    say("events get through to RabbitMQ again; %llu were lost", (unsigned long long)lost);
}

static void *send_all(void *arg) {
    struct events *events = arg;
    size_t count;
    while ((count = wait_for_events(events)) > 0) {
        char problem[200] = "";
        send_window(events, count, problem);
        strike(events);
        if (problem[0] != '\0')
            pause_after(events, problem);
        else
            note_success(events);
    }
    return NULL;
}
