#include "broker/queues.h"

#include <stdlib.h>
#include <string.h>

#include "broker/ladder.h"
#include "broker/shared.h"

/* ---- what is wanted ---- */

static void release(struct lvt_wanted *wanted) {
    if (!wanted || atomic_fetch_sub(&wanted->holders, 1) != 1) {
        return;
    }
    free(wanted->queue.name);
    free(wanted->queue.exchange);
    free(wanted->queue.dead_letter);
    lvt_strings_free(&wanted->queue.bind);
    free(wanted);
}

static bool copy_binds(const struct lvt_strings *from, struct lvt_strings *to) {
    to->items = calloc(from->count + 1, sizeof *to->items);
    while (to->items && to->count < from->count) {
        char *copy = strdup(from->items[to->count]);
        if (!copy) {
            return false;
        }
        to->items[to->count++] = copy;
    }
    return to->items != NULL;
}

/* NULL when out of memory. */
static struct lvt_wanted *copy_of(const struct lvt_queue *queue) {
    struct lvt_wanted *wanted = calloc(1, sizeof *wanted);
    if (!wanted) {
        return NULL;
    }
    atomic_init(&wanted->holders, 1);
    wanted->queue = (struct lvt_queue){.name = strdup(queue->name),
                                       .type = queue->type,
                                       .exchange = strdup(queue->exchange),
                                       .dead_letter = strdup(queue->dead_letter),
                                       .prefetch = queue->prefetch,
                                       .message_ttl_ms = queue->message_ttl_ms,
                                       .max_priority = queue->max_priority};
    if (!wanted->queue.name || !wanted->queue.exchange || !wanted->queue.dead_letter ||
        !copy_binds(&queue->bind, &wanted->queue.bind)) {
        release(wanted);
        return NULL;
    }
    return wanted;
}

static bool same_declaration(const struct lvt_queue *a, const struct lvt_queue *b) {
    bool same = a->type == b->type && strcmp(a->exchange, b->exchange) == 0 &&
                strcmp(a->dead_letter, b->dead_letter) == 0 &&
                a->message_ttl_ms == b->message_ttl_ms && a->max_priority == b->max_priority &&
                a->bind.count == b->bind.count;
    for (size_t i = 0; same && i < a->bind.count; i++) {
        same = strcmp(a->bind.items[i], b->bind.items[i]) == 0;
    }
    return same;
}

/* ---- the list; its writer is the loop's thread, which may read it without the mutex ---- */

static struct lvt_queue_state *find(struct lvt_broker *broker, const char *name) {
    for (size_t i = 0; i < broker->queues.count; i++) {
        if (strcmp(broker->queues.items[i]->name, name) == 0) {
            return broker->queues.items[i];
        }
    }
    return NULL;
}

/* NULL when out of memory. */
static struct lvt_queue_state *find_or_add(struct lvt_broker *broker, const char *name) {
    struct lvt_queues *queues = &broker->queues;
    struct lvt_queue_state *state = find(broker, name);
    if (state) {
        return state;
    }
    state = calloc(1, sizeof *state);
    char *copy = strdup(name);
    pthread_mutex_lock(&broker->status.mutex);
    void **grown = realloc(queues->items, (queues->count + 1) * sizeof *grown);
    if (grown) {
        queues->items = (struct lvt_queue_state **)grown;
    }
    bool made = state && copy && grown;
    if (made) {
        *state = (struct lvt_queue_state){.name = copy, .depth = -1, .consumers = -1};
        queues->items[queues->count++] = state;
    }
    pthread_mutex_unlock(&broker->status.mutex);
    if (!made) {
        free(state);
        free(copy);
        return NULL;
    }
    return state;
}

/* Takes `wanted` over. One that comes to be consumed has to be looked at before. */
static void want(struct lvt_broker *broker, struct lvt_queue_state *state, struct lvt_queue *route,
                 struct lvt_wanted *wanted) {
    pthread_mutex_lock(&broker->status.mutex);
    struct lvt_wanted *old = state->wanted;
    state->declared &= old != NULL;
    if (!wanted) {
        state->depth = state->consumers = -1;
    }
    state->route = route;
    state->wanted = wanted;
    pthread_mutex_unlock(&broker->status.mutex);
    atomic_fetch_add(&broker->queues.changes, 1);
    release(old);
}

static bool update_work_queue(struct lvt_broker *broker, struct lvt_queue *queue,
                              bool *ret_declare) {
    struct lvt_queue_state *state =
        queue->handler_count > 0 ? find_or_add(broker, queue->name) : find(broker, queue->name);
    if (queue->handler_count == 0) {
        if (state && state->wanted) {
            want(broker, state, queue, NULL);
        }
        return true;
    }
    if (!state) {
        return false;
    }
    bool same = state->wanted && same_declaration(&state->wanted->queue, queue);
    if (same && state->wanted->queue.prefetch == queue->prefetch) {
        return true;
    }
    struct lvt_wanted *wanted = copy_of(queue);
    if (!wanted) {
        return false;
    }
    want(broker, state, queue, wanted);
    *ret_declare |= !same;
    return true;
}

static bool is_dead_letter(const struct lvt_broker *broker, const char *name) {
    bool is = strcmp(name, LVT_LADDER_UNDELIVERED) == 0;
    for (size_t i = 0; i < broker->queues.count && !is; i++) {
        const struct lvt_wanted *wanted = broker->queues.items[i]->wanted;
        is = wanted && strcmp(name, wanted->queue.dead_letter) == 0;
    }
    return is;
}

static bool update_dead_letters(struct lvt_broker *broker) {
    bool made = true;
    for (size_t i = 0; i < broker->queues.count && made; i++) {
        const struct lvt_wanted *wanted = broker->queues.items[i]->wanted;
        made = !wanted || !*wanted->queue.dead_letter ||
               find_or_add(broker, wanted->queue.dead_letter);
    }
    made = made && find_or_add(broker, LVT_LADDER_UNDELIVERED);
    for (size_t i = 0; i < broker->queues.count; i++) {
        struct lvt_queue_state *state = broker->queues.items[i];
        bool is = is_dead_letter(broker, state->name);
        pthread_mutex_lock(&broker->status.mutex);
        state->dead_letter = is;
        pthread_mutex_unlock(&broker->status.mutex);
    }
    return made;
}

enum leveret_code lvt_queues_update(struct lvt_broker *broker, const struct lvt_routes *routes,
                                    bool *ret_declare, struct leveret_error *err) {
    bool made = true;
    for (size_t i = 0; i < routes->queue_count; i++) {
        made &= update_work_queue(broker, routes->queues[i], ret_declare);
    }
    made &= update_dead_letters(broker);
    return made ? LEVERET_OK : leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for queues");
}

void lvt_queues_free(struct lvt_queues *queues) {
    for (size_t i = 0; i < queues->count; i++) {
        release(queues->items[i]->wanted);
        free(queues->items[i]->name);
        free(queues->items[i]);
    }
    free(queues->items);
}

struct lvt_queue_state *lvt_queue_at(struct lvt_broker *broker, size_t number) {
    pthread_mutex_lock(&broker->status.mutex);
    struct lvt_queue_state *state =
        number < broker->queues.count ? broker->queues.items[number] : NULL;
    pthread_mutex_unlock(&broker->status.mutex);
    return state;
}

/* ---- plans ---- */

enum leveret_code lvt_plan_take(struct lvt_broker *broker, struct lvt_plan *ret_plan,
                                struct leveret_error *err) {
    struct lvt_plan plan = {0};
    pthread_mutex_lock(&broker->status.mutex);
    size_t count = broker->queues.count;
    plan.work = calloc(count + 1, sizeof *plan.work);
    plan.dead_letters = calloc(count + 1, sizeof *plan.dead_letters);
    for (size_t i = 0; i < count && plan.work && plan.dead_letters; i++) {
        struct lvt_queue_state *state = broker->queues.items[i];
        if (state->wanted) {
            atomic_fetch_add(&state->wanted->holders, 1);
            plan.work[plan.work_count++] = (struct lvt_work){state, state->wanted};
        } else if (state->dead_letter) {
            plan.dead_letters[plan.dead_letter_count++] = state;
        }
    }
    pthread_mutex_unlock(&broker->status.mutex);
    if (!plan.work || !plan.dead_letters) {
        lvt_plan_free(&plan);
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for queues");
    }
    *ret_plan = plan;
    return LEVERET_OK;
}

void lvt_plan_free(struct lvt_plan *plan) {
    for (size_t i = 0; i < plan->work_count; i++) {
        release(plan->work[i].wanted);
    }
    free(plan->work);
    free(plan->dead_letters);
}
