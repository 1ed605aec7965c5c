#include "broker/link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "broker/amqp_headers.h"
#include "broker/eventfd.h"
#include "broker/shared.h"

#define BACKOFF_MIN_MS 1000
#define BACKOFF_LAST_MS 20000
/* Failures that count where a server or the way to it is away: asking costs little, and it is
 * wanted back. */
#define AWAY_FAILURES_MAX 2
/* A session that lasted so long was a good one. */
#define GOOD_SESSION_MS 10000

_Static_assert(LVT_WATCHES == LVT_LINK_ROLES, "each link has a watch");

const char *lvt_link_role_name(enum lvt_link_role role) {
    switch (role) {
    case LVT_LINK_CONSUMING:
        return "consuming";
    case LVT_LINK_PUBLISHING:
        return "publishing";
    default:
        return "topology";
    }
}

enum leveret_code lvt_link_init(struct lvt_link *link, struct lvt_broker *broker,
                                enum lvt_link_role role, const struct lvt_link_work *work,
                                struct leveret_error *err) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return leveret_fail(err, LEVERET_SYSTEM, "cannot create an eventfd: %s", strerror(errno));
    }
    *link = (struct lvt_link){.broker = broker,
                              .role = role,
                              .work = work,
                              .connection.watch = &broker->watchdog.watches[role],
                              .wake_fd = fd};
    if (getrandom(&link->random, sizeof link->random, GRND_NONBLOCK) < 0 || link->random == 0) {
        link->random = (uint32_t)getpid() * 4 + role + 1;
    }
    return LEVERET_OK;
}

void lvt_link_free(struct lvt_link *link) {
    if (link->work) {
        close(link->wake_fd);
    }
}

void lvt_link_wake(struct lvt_link *link) {
    lvt_eventfd_wake(link->wake_fd);
}

void lvt_link_wait(struct lvt_link *link, int timeout_ms) {
    amqp_connection_state_t amqp = link->connection.amqp;
    if (amqp && (amqp_frames_enqueued(amqp) || amqp_data_in_buffer(amqp))) {
        return;
    }
    lvt_eventfd_wait_with(link->wake_fd, amqp ? amqp_get_sockfd(amqp) : -1, timeout_ms);
}

bool lvt_link_must_end(struct lvt_link *link) {
    return atomic_load(&link->stop) && (!link->work->idle || link->work->idle(link) ||
                                        lvt_now_ms() >= atomic_load(&link->stop_at_ms));
}

uint64_t lvt_backoff_ms(unsigned failures, uint32_t *random) {
    uint64_t base_ms = BACKOFF_MIN_MS;
    for (unsigned i = 1; i < failures && base_ms < BACKOFF_LAST_MS; i++) {
        base_ms *= 2;
    }
    if (base_ms > BACKOFF_LAST_MS) {
        base_ms = BACKOFF_LAST_MS;
    }
    *random ^= *random << 13; /* xorshift */
    *random ^= *random >> 17;
    *random ^= *random << 5;
    return base_ms + *random % (base_ms / 2);
}

/* Only one that could not reach the server goes on early: sessions that fail would chase each
 * other.
 */
static void wait_before_retry(struct lvt_link *link, uint64_t delay_ms, bool reached) {
    uint64_t due_ms = lvt_now_ms() + delay_ms;
    for (uint64_t now_ms = lvt_now_ms(); now_ms < due_ms && !lvt_link_must_end(link);
         now_ms = lvt_now_ms()) {
        if (!reached && atomic_load(&link->server_is_back)) {
            return;
        }
        uint64_t left_ms = due_ms - now_ms;
        if (atomic_load(&link->stop)) {
            uint64_t stop_ms = atomic_load(&link->stop_at_ms);
            left_ms = stop_ms > now_ms && stop_ms - now_ms < left_ms ? stop_ms - now_ms : left_ms;
        }
        lvt_link_wait(link, (int)left_ms);
    }
}

/* That the server is back: those that wait since they could not reach it need not. */
static void tell_others(const struct lvt_link *link) {
    for (int role = 0; role < LVT_LINK_ROLES; role++) {
        struct lvt_link *other = &link->broker->links[role];
        if (other != link) {
            atomic_store(&other->server_is_back, true);
            lvt_link_wake(other);
        }
    }
}

static enum leveret_code connect_and_work(struct lvt_link *link, bool *ret_reached,
                                          struct leveret_error *err) {
    struct lvt_broker *broker = link->broker;
    char name[LVT_SHORT_MAX];
    snprintf(name, sizeof name, "%s %s", broker->name, lvt_link_role_name(link->role));
    struct lvt_connection_options options = {.url = &broker->url,
                                             .ca_file = broker->ca_file,
                                             .heartbeat_s = broker->heartbeat_s,
                                             .name = name,
                                             .cancel = &link->stop};
    enum leveret_code code = lvt_connection_open(&link->connection, &options, err);
    if (code != LEVERET_OK) {
        return code;
    }
    *ret_reached = true;
    tell_others(link);
    lvt_status_connected(broker, link->role, lvt_connection_server_version(&link->connection));
    uint64_t began_ms = lvt_now_ms();
    code = link->work->session(link, err);
    lvt_status_disconnected(broker, link->role);
    if (code == LEVERET_OK) {
        lvt_connection_close(&link->connection);
    } else {
        lvt_connection_drop(&link->connection);
    }
    if (lvt_now_ms() - began_ms >= GOOD_SESSION_MS) {
        link->failures = 0;
    }
    return code;
}

static uint64_t pause_ms(struct lvt_link *link, enum leveret_code code) {
    bool away = code == LEVERET_UNAVAILABLE;
    unsigned failures =
        away && link->failures > AWAY_FAILURES_MAX ? AWAY_FAILURES_MAX : link->failures;
    return lvt_backoff_ms(failures, &link->random);
}

static void *run(void *arg) {
    struct lvt_link *link = arg;
    while (!lvt_link_must_end(link)) {
        struct leveret_error err = {0};
        bool reached = false;
        atomic_store(&link->server_is_back, false);
        enum leveret_code code = connect_and_work(link, &reached, &err);
        if (code != LEVERET_OK && code != LEVERET_STATE && !lvt_link_must_end(link)) {
            link->failures++;
            uint64_t delay_ms = pause_ms(link, code);
            lvt_status_problem(link->broker, link->role, &err, delay_ms);
            wait_before_retry(link, delay_ms, reached);
        }
    }
    if (link->work->finished) {
        link->work->finished(link);
    }
    return NULL;
}

enum leveret_code lvt_link_start(struct lvt_link *link, struct leveret_error *err) {
    enum leveret_code code = lvt_thread_start(&link->thread, LVT_AMQP_STACK, run, link, err);
    link->started = code == LEVERET_OK;
    return code;
}

void lvt_link_stop(struct lvt_link *link, uint64_t within_ms) {
    uint64_t stop_at_ms = lvt_now_ms() + within_ms;
    atomic_store(&link->stop_at_ms, stop_at_ms);
    atomic_store(&link->stop, true);
    lvt_watch_hurry(link->connection.watch, stop_at_ms + 2500); /* closing takes time, too */
    lvt_link_wake(link);
}

void lvt_link_join(struct lvt_link *link) {
    if (link->started) {
        pthread_join(link->thread, NULL);
        link->started = false;
    }
}
