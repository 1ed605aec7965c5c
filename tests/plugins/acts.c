/* A plugin that does what the event's payload says: {"do": "retry", ...}. It never blocks; a thread
 * of its own finishes what is to be finished from elsewhere. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "leveret/plugin.h"
#include "publish_request.h"

static const struct leveret_host *host;

/* An event that the thread is to finish. */
struct job {
    struct job *next;
    struct leveret_event event;
    int64_t delay_ms;
};

struct acts {
    struct leveret_handler *handler;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct job *jobs;
    bool closing;
    bool snoozed; /* the lane's thread's */
};

/* What is kept between a call and its answer. */
struct wait {
    struct leveret_event event;
    int left;
    char order[64];
};

static void sleep_for(int64_t delay_ms) {
    struct timespec time = {delay_ms / 1000, delay_ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void *finish_jobs(void *ctx) {
    struct acts *acts = ctx;
    pthread_mutex_lock(&acts->lock);
    while (!acts->closing || acts->jobs) {
        struct job *job = acts->jobs;
        if (!job) {
            pthread_cond_wait(&acts->changed, &acts->lock);
            continue;
        }
        acts->jobs = job->next;
        pthread_mutex_unlock(&acts->lock);
        sleep_for(job->delay_ms);
        const struct leveret_event_info *info = host->info(job->event);
        int64_t number = 0;
        host->json_integer(info->payload, "/number", &number);
        struct leveret_field field = leveret_field_integer("number", number);
        host->event_log(job->event, LEVERET_LOG_INFO, "finished from a thread", &field, 1);
        host->finish(job->event, LEVERET_DONE, NULL, -1);
        free(job);
        pthread_mutex_lock(&acts->lock);
    }
    pthread_mutex_unlock(&acts->lock);
    return NULL;
}

static int32_t open_plugin(struct leveret_handler *handler, struct leveret_text config,
                           void **ret_self, char *error, size_t error_size) {
    char greeting[64];
    if (host->json_at(config, "/refuse", NULL) != LEVERET_JSON_MISSING) {
        snprintf(error, error_size, "the configuration says refuse");
        return 1;
    }
    struct acts *acts = calloc(1, sizeof *acts);
    if (!acts)
        return 1;
    acts->handler = handler;
    pthread_mutex_init(&acts->lock, NULL);
    pthread_cond_init(&acts->changed, NULL);
    if (pthread_create(&acts->thread, NULL, finish_jobs, acts) != 0) {
        free(acts);
        return 1;
    }
    if (host->json_string(config, "/greeting", greeting, sizeof greeting) >= 0)
        host->log(handler, LEVERET_LOG_INFO, greeting, NULL, 0);
    *ret_self = acts;
    return 0;
}

static void close_plugin(void *self) {
    struct acts *acts = self;
    pthread_mutex_lock(&acts->lock);
    acts->closing = true;
    pthread_cond_broadcast(&acts->changed);
    pthread_mutex_unlock(&acts->lock);
    pthread_join(acts->thread, NULL);
    pthread_mutex_destroy(&acts->lock);
    pthread_cond_destroy(&acts->changed);
    host->log(acts->handler, LEVERET_LOG_INFO, "acts is closed", NULL, 0);
    free(acts);
}

/* ---- effects ---- */

static struct wait *wait_for(struct leveret_event event, int left) {
    struct wait *wait = calloc(1, sizeof *wait);
    if (!wait)
        abort();
    wait->event = event;
    wait->left = left;
    return wait;
}

static void ended(struct wait *wait, const struct leveret_answer *answer) {
    char reason[200];
    if (answer->status == LEVERET_STATUS_OK) {
        host->finish(wait->event, LEVERET_DONE, NULL, -1);
    } else {
        snprintf(reason, sizeof reason, "status %d: %.*s", answer->status, (int)answer->error.len,
                 answer->error.data);
        host->finish(wait->event, LEVERET_RETRY, reason, -1);
    }
    free(wait);
}

static void stated(void *ctx, const struct leveret_answer *answer) {
    struct wait *wait = ctx;
    if (answer->row_count == 1 && answer->column_count == 1)
        strncat(wait->order, answer->cells[0].data, sizeof wait->order - strlen(wait->order) - 1);
    if (--wait->left > 0 && answer->status == LEVERET_STATUS_OK)
        return;
    struct leveret_field field = leveret_field_text("order", leveret_text_of(wait->order));
    host->event_log(wait->event, LEVERET_LOG_INFO, "the statements are answered", &field, 1);
    if (wait->left == 0)
        ended(wait, answer);
}

/* Several statements at once, which must run in this order. */
static int32_t ask_statements(struct leveret_event event) {
    static const char *const numbers[] = {"1", "2", "3"};
    struct wait *wait = wait_for(event, 3);
    for (int i = 0; i < 3; i++) {
        const struct leveret_text number = leveret_text_of(numbers[i]);
        host->query(event,
                    leveret_text_of("insert into acts (number) values ($1) returning number"),
                    &number, 1, stated, wait);
    }
    return LEVERET_PENDING;
}

static void counted(void *ctx, const struct leveret_answer *answer) {
    struct wait *wait = ctx;
    struct leveret_field field = leveret_field_integer("count", answer->count);
    host->event_log(wait->event, LEVERET_LOG_INFO, "invalidated", &field, 1);
    ended(wait, answer);
}

static void replied(void *ctx, const struct leveret_answer *answer) {
    struct wait *wait = ctx;
    if (answer->status == LEVERET_STATUS_OK) {
        struct leveret_field field = leveret_field_text("reply", answer->reply->text);
        host->event_log(wait->event, LEVERET_LOG_INFO, "replied", &field, 1);
    }
    ended(wait, answer);
}

static void responded(void *ctx, const struct leveret_answer *answer) {
    struct wait *wait = ctx;
    struct leveret_field fields[] = {leveret_field_integer("status", answer->http_status),
                                     leveret_field_text("body", answer->http_body)};
    host->event_log(wait->event, LEVERET_LOG_INFO, "responded", fields, 2);
    ended(wait, answer);
}

static void slept(void *ctx, const struct leveret_answer *answer) {
    ended(ctx, answer);
}

static void published(void *ctx, const struct leveret_answer *answer) {
    struct wait *wait = ctx;
    struct leveret_field field = leveret_field_text("published", answer->id);
    if (answer->status == LEVERET_STATUS_OK)
        host->event_log(wait->event, LEVERET_LOG_INFO, "published", &field, 1);
    ended(wait, answer);
}

static int32_t publish(struct leveret_event event) {
    struct publish_request request;
    struct wait *wait = wait_for(event, 1);
    const struct leveret_answer *refused =
        host->publish(event, publish_read(host, host->info(event), &request), published, wait);
    if (refused)
        published(wait, refused);
    return LEVERET_PENDING;
}

static void opened(void *ctx, const struct leveret_answer *answer) {
    struct wait *wait = ctx;
    if (answer->status == LEVERET_STATUS_OK)
        publish(wait->event);
    else
        host->finish(wait->event, LEVERET_RETRY, NULL, -1);
    free(wait);
}

/* With a transaction open. */
static int32_t publish_in_transaction(struct leveret_event event) {
    host->query(event, leveret_text_of("select 1"), NULL, 0, opened, wait_for(event, 1));
    return LEVERET_PENDING;
}

/* Asks for the next answer in the callback of the last: it is the lane's thread there, too. */
static void slept_first(void *ctx, const struct leveret_answer *answer) {
    struct wait *wait = ctx;
    if (answer->status == LEVERET_STATUS_OK)
        host->sleep(wait->event, 1, slept, wait);
    else
        ended(wait, answer);
}

static int32_t ask(struct leveret_event event, const struct leveret_event_info *info,
                   const char *action) {
    char text[200];
    if (strcmp(action, "query") == 0)
        return ask_statements(event);
    if (strcmp(action, "publish") == 0)
        return publish(event);
    if (strcmp(action, "publish in transaction") == 0)
        return publish_in_transaction(event);
    if (strcmp(action, "bad query") == 0)
        host->query(event, leveret_text_of("select 1/0"), NULL, 0, stated, wait_for(event, 1));
    if (strcmp(action, "invalidate") == 0) {
        struct leveret_text pattern = leveret_text_of("acts:*");
        host->invalidate(event, &pattern, 1, counted, wait_for(event, 1));
    }
    if (strcmp(action, "redis") == 0) {
        struct leveret_text words[] = {leveret_text_of("SET"), leveret_text_of("acts:key"),
                                       info->id};
        host->redis(event, words, 3, replied, wait_for(event, 1));
    }
    if (strcmp(action, "http") == 0) {
        host->json_string(info->payload, "/url", text, sizeof text);
        struct leveret_pair header = {leveret_text_of("X-Acts"), leveret_text_of("yes")};
        struct leveret_http_request request = {sizeof request,
                                               leveret_text_of("POST"),
                                               leveret_text_of(text),
                                               info->payload,
                                               &header,
                                               1,
                                               5000};
        host->http(event, &request, responded, wait_for(event, 1));
    }
    if (strcmp(action, "sleep") == 0)
        host->sleep(event, 1, slept_first, wait_for(event, 1));
    if (strcmp(action, "sleep long") == 0)
        host->sleep(event, 3600000, slept, wait_for(event, 1));
    return LEVERET_PENDING;
}

/* ---- what it sees ---- */

static int32_t show(struct leveret_event event, const struct leveret_event_info *info) {
    char name[8], quoted[32];
    struct leveret_header header = {0};
    struct leveret_text value;
    double number = 0;
    bool truth = false;
    host->json_string(info->payload, "/a~1b/~0/1", name, sizeof name);
    host->json_number(info->payload, "/half", &number);
    host->json_boolean(info->payload, "/truth", &truth);
    host->json_at(info->payload, "/list", &value);
    host->header(event, "colour", &header);
    host->json_quote(info->id, quoted, sizeof quoted);
    struct leveret_field fields[] = {
        leveret_field_text("name", leveret_text_of(name)),
        leveret_field_text("list", value),
        leveret_field_integer("members", host->json_count(info->payload, "")),
        leveret_field_integer("halves", (int64_t)(2 * number)),
        leveret_field_integer("truth", truth),
        leveret_field_text("colour", header.text),
        leveret_field_text("quoted", leveret_text_of(quoted)),
        leveret_field_text("queue", info->queue),
        leveret_field_integer("attempts", info->attempt),
        leveret_field_integer("priority", info->priority),
    };
    host->event_log(event, LEVERET_LOG_INFO, "shown", fields, sizeof fields / sizeof *fields);
    return LEVERET_DONE;
}

/* Calls that cannot be made so. */
static int32_t misuse(struct leveret_event event) {
    const struct leveret_answer *answers[] = {
        host->query(event, leveret_text_of("select 1"), NULL, 0, NULL, NULL),
        host->redis(event, NULL, 0, slept, NULL),
        host->sleep((struct leveret_event){event.slot, event.generation + 1}, 1, slept, NULL),
    };
    struct leveret_field fields[3];
    static const char *const names[] = {"first", "second", "third"};
    for (int i = 0; i < 3; i++)
        fields[i] = leveret_field_integer(names[i], answers[i] ? answers[i]->status : -1);
    host->event_log(event, LEVERET_LOG_INFO, "refused", fields, 3);
    return LEVERET_DONE;
}

static int32_t pass_on(struct acts *acts, struct leveret_event event, int64_t delay_ms) {
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return LEVERET_RETRY;
    *job = (struct job){.event = event, .delay_ms = delay_ms};
    pthread_mutex_lock(&acts->lock);
    job->next = acts->jobs;
    acts->jobs = job;
    pthread_cond_broadcast(&acts->changed);
    pthread_mutex_unlock(&acts->lock);
    return LEVERET_PENDING;
}

static int32_t handle(void *self, struct leveret_event event) {
    const struct leveret_event_info *info = host->info(event);
    struct acts *acts = self;
    char action[32] = "";
    int64_t ms = 0;
    host->json_string(info->payload, "/do", action, sizeof action);
    host->json_integer(info->payload, "/ms", &ms);
    if (strcmp(action, "retry") == 0)
        return host->finish(event, LEVERET_RETRY, "not yet", ms);
    if (strcmp(action, "reject") == 0)
        return host->finish(event, LEVERET_REJECT, "never", -1);
    if (strcmp(action, "drop") == 0)
        return LEVERET_DROP;
    if (strcmp(action, "snooze") == 0 && !acts->snoozed) {
        acts->snoozed = true;
        return host->finish(event, LEVERET_SNOOZE, NULL, ms);
    }
    if (strcmp(action, "snooze") == 0)
        return LEVERET_DONE;
    if (strcmp(action, "unknown") == 0)
        return 42;
    if (strcmp(action, "twice") == 0) {
        host->finish(event, LEVERET_DONE, NULL, -1);
        return LEVERET_DONE;
    }
    if (strcmp(action, "thread") == 0)
        return pass_on(acts, event, ms);
    if (strcmp(action, "never") == 0)
        return LEVERET_PENDING;
    if (strcmp(action, "show") == 0)
        return show(event, info);
    if (strcmp(action, "misuse") == 0)
        return misuse(event);
    return action[0] ? ask(event, info, action) : LEVERET_DONE;
}

static const char *const events[] = {"act", "act.#", NULL};

static const struct leveret_plugin plugin = {
    LEVERET_PLUGIN_HEAD,
    "acts",
    "1.2.3",
    events,
    "{\"queue\": \"acts.queue\", \"timeout_ms\": 2000, \"retry\": {\"max\": 2, \"base_ms\": 1}}",
    0,
    open_plugin,
    handle,
    close_plugin,
};

const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *the_host) {
    host = the_host;
    return &plugin;
}
