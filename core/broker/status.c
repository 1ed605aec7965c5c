/* What the threads tell about themselves: a status for the loop, and few log lines. */
#include <stdio.h>

#include "base/clock.h"
#include "broker/shared.h"

#define ALL_CONNECTED ((1u << LVT_LINK_ROLES) - 1)
#define LOG_INTERVAL_MIN_MS 10000
#define LOG_INTERVAL_MAX_MS 300000

void lvt_status_init(struct lvt_status *status) {
    *status = (struct lvt_status){.log_interval_ms = LOG_INTERVAL_MIN_MS};
    pthread_mutex_init(&status->mutex, NULL);
}

void lvt_status_free(struct lvt_status *status) {
    pthread_mutex_destroy(&status->mutex);
}

static void wake(struct lvt_broker *broker) {
    broker->inbox.wake(broker->inbox.wake_ctx);
}

void lvt_status_connected(struct lvt_broker *broker, enum lvt_link_role role,
                          struct lvt_bytes server_version) {
    struct lvt_status *status = &broker->status;
    pthread_mutex_lock(&status->mutex);
    status->connected |= 1u << role;
    if (role != LVT_LINK_TOPOLOGY) {
        status->succeeded[role] = true;
    }
    bool all = status->connected == ALL_CONNECTED;
    bool first = !status->announced;
    bool log = all && (first || status->outage_logged);
    if (all) {
        status->announced = true;
        status->outage_logged = false;
        status->log_after_ms = 0;
        status->log_interval_ms = LOG_INTERVAL_MIN_MS;
    }
    pthread_mutex_unlock(&status->mutex);
    if (log) {
        lvt_logf(broker->log, LVT_INFO, "connected to RabbitMQ %.*s at %s:%d, vhost \"%s\"%s",
                 (int)server_version.len, server_version.data, broker->url.host, broker->url.port,
                 broker->url.vhost, first ? "" : " again");
    }
    wake(broker);
}

void lvt_status_disconnected(struct lvt_broker *broker, enum lvt_link_role role) {
    struct lvt_status *status = &broker->status;
    pthread_mutex_lock(&status->mutex);
    status->connected &= ~(1u << role);
    if (role == LVT_LINK_PUBLISHING) {
        status->blocked = false;
    }
    pthread_mutex_unlock(&status->mutex);
    wake(broker);
}

void lvt_status_succeeded(struct lvt_broker *broker, enum lvt_link_role role) {
    pthread_mutex_lock(&broker->status.mutex);
    broker->status.succeeded[role] = true;
    if (role == LVT_LINK_TOPOLOGY) {
        broker->status.ladder_problem.code = LEVERET_OK;
    }
    pthread_mutex_unlock(&broker->status.mutex);
}

void lvt_status_problem(struct lvt_broker *broker, enum lvt_link_role role,
                        const struct leveret_error *problem, uint64_t retry_ms) {
    struct lvt_status *status = &broker->status;
    uint64_t now_ms = lvt_now_ms();
    pthread_mutex_lock(&status->mutex);
    /* That is answered to each event that wanted a delay; the others need no ladder. */
    bool ladder = broker->publish_only && role == LVT_LINK_TOPOLOGY;
    bool fatal = problem->code == LEVERET_CONFIG && !status->succeeded[role] && !ladder;
    if (fatal && !status->failed) {
        status->failed = true;
        status->failure = *problem;
    }
    if (ladder) {
        status->ladder_problem = *problem;
    }
    if (role == LVT_LINK_PUBLISHING) {
        status->publish_problems++;
        status->publish_problem = *problem;
    }
    bool news = problem->code == LEVERET_CONFIG && strcmp(problem->text, status->logged.text) != 0;
    bool log = !fatal && !ladder && (news || now_ms >= status->log_after_ms);
    if (news) {
        status->logged = *problem;
    } else if (log) {
        status->log_after_ms = now_ms + status->log_interval_ms;
        status->log_interval_ms *= 2;
        if (status->log_interval_ms > LOG_INTERVAL_MAX_MS) {
            status->log_interval_ms = LOG_INTERVAL_MAX_MS;
        }
    }
    status->outage_logged |= log;
    pthread_mutex_unlock(&status->mutex);
    if (fatal || broker->publish_only) {
        wake(broker);
    }
    if (!fatal) {
        enum lvt_level level = problem->code == LEVERET_CONFIG ? LVT_ERROR : LVT_WARN;
        lvt_logf(broker->log, log ? level : LVT_DEBUG, "%s (%s connection; again in %.1f s)",
                 problem->text, lvt_link_role_name(role), (double)retry_ms / 1000);
    }
}

struct leveret_error lvt_status_ladder(struct lvt_broker *broker) {
    pthread_mutex_lock(&broker->status.mutex);
    struct leveret_error problem = broker->status.ladder_problem;
    pthread_mutex_unlock(&broker->status.mutex);
    return problem;
}

void lvt_status_blocked(struct lvt_broker *broker, bool blocked) {
    pthread_mutex_lock(&broker->status.mutex);
    broker->status.blocked = blocked;
    pthread_mutex_unlock(&broker->status.mutex);
    wake(broker);
}
