#include "engine/routes.h"

#include <stdio.h>
#include <stdlib.h>

/* AMQP counts a consumer's window in 16 bits. */
#define PREFETCH_MAX 65535

/* ---- patterns ---- */

/* Takes the next word off a dotted text, whose data is NULL at its end. */
static struct lvt_bytes next_word(struct lvt_bytes *rest) {
    const char *dot = memchr(rest->data, '.', rest->len);
    struct lvt_bytes word = *rest;
    if (!dot) {
        *rest = lvt_bytes(NULL, 0);
        return word;
    }
    word.len = (size_t)(dot - rest->data);
    *rest = lvt_bytes(dot + 1, rest->len - word.len - 1);
    return word;
}

static bool matches(struct lvt_bytes pattern, struct lvt_bytes type) {
    if (!pattern.data)
        return !type.data;
    struct lvt_bytes rest = pattern;
    struct lvt_bytes word = next_word(&rest);
    if (lvt_bytes_is(word, "#")) {
        if (matches(rest, type))
            return true;
        if (!type.data)
            return false;
        next_word(&type);
        return matches(pattern, type);
    }
    if (!type.data)
        return false;
    struct lvt_bytes type_word = next_word(&type);
    return (lvt_bytes_is(word, "*") || lvt_bytes_equal(word, type_word)) && matches(rest, type);
}

bool lvt_pattern_matches(const char *pattern, struct lvt_bytes type) {
    return matches(lvt_bytes_of(pattern), type);
}

/* Whether some type fits both. */
static bool overlap(struct lvt_bytes a, struct lvt_bytes b) {
    if (!a.data && !b.data)
        return true;
    if (!a.data)
        return overlap(b, a);
    struct lvt_bytes rest_a = a;
    struct lvt_bytes word_a = next_word(&rest_a);
    if (!b.data)
        return lvt_bytes_is(word_a, "#") && overlap(rest_a, b);
    struct lvt_bytes rest_b = b;
    struct lvt_bytes word_b = next_word(&rest_b);
    if (lvt_bytes_is(word_a, "#") || lvt_bytes_is(word_b, "#"))
        /* a # takes nothing and goes, or takes a word of the other and stays */
        return lvt_bytes_is(word_a, "#") ? overlap(rest_a, b) || overlap(a, rest_b)
                                         : overlap(a, rest_b) || overlap(rest_a, b);
    if (!lvt_bytes_is(word_a, "*") && !lvt_bytes_is(word_b, "*") &&
        !lvt_bytes_equal(word_a, word_b))
        return false;
    return overlap(rest_a, rest_b);
}

/* The more literal words the better; among equals, * is more specific than #. */
static int specificity(const char *pattern) {
    int score = 0;
    bool exact = true;
    for (struct lvt_bytes rest = lvt_bytes_of(pattern); rest.data;) {
        struct lvt_bytes word = next_word(&rest);
        if (lvt_bytes_is(word, "#")) {
            exact = false;
            score -= 1;
        } else if (lvt_bytes_is(word, "*")) {
            exact = false;
        } else {
            score += 1000;
        }
    }
    return exact ? 1000000 : score;
}

struct lvt_handler *lvt_routes_match(const struct lvt_queue *queue, struct lvt_bytes type) {
    struct lvt_handler *best = NULL;
    int best_score = 0;
    for (size_t i = 0; i < queue->handler_count; i++) {
        struct lvt_handler *handler = queue->handlers[i];
        for (size_t j = 0; j < handler->options.events.count; j++) {
            const char *pattern = handler->options.events.items[j];
            int score = specificity(pattern);
            if ((!best || score > best_score) && lvt_pattern_matches(pattern, type)) {
                best = handler;
                best_score = score;
            }
        }
    }
    return best;
}

/* ---- queues and handlers ---- */

static void free_queue(struct lvt_queue *queue) {
    if (!queue)
        return;
    free(queue->name);
    free(queue->exchange);
    free(queue->dead_letter);
    lvt_strings_free(&queue->bind);
    free(queue->handlers);
    free(queue);
}

void lvt_handler_free(struct lvt_handler *handler) {
    if (!handler)
        return;
    if (handler->runtime)
        handler->runtime->destroy(handler->runtime_self);
    lvt_handler_options_free(&handler->options);
    free(handler->name);
    free(handler->path);
    free(handler->about);
    free(handler);
}

void lvt_routes_free(struct lvt_routes *routes) {
    for (size_t i = 0; i < routes->handler_count; i++)
        lvt_handler_free(routes->handlers[i]);
    for (size_t i = 0; i < routes->queue_count; i++)
        free_queue(routes->queues[i]);
    free(routes->handlers);
    free(routes->queues);
    *routes = (struct lvt_routes){0};
}

static struct lvt_queue *new_queue(const struct lvt_handler *handler) {
    const struct lvt_handler_options *options = &handler->options;
    struct lvt_queue *queue = calloc(1, sizeof *queue);
    if (!queue)
        return NULL;
    queue->name = options->queue ? strdup(options->queue) : NULL;
    if (!options->queue && asprintf(&queue->name, "%s.queue", handler->name) < 0)
        queue->name = NULL;
    queue->exchange = strdup(options->exchange);
    queue->dead_letter = strdup(options->dead_letter);
    queue->type = options->queue_type;
    queue->message_ttl_ms = options->message_ttl_ms;
    queue->max_priority = options->max_priority;
    queue->envelope = options->envelope;
    if (!queue->name || !queue->exchange || !queue->dead_letter) {
        free_queue(queue);
        return NULL;
    }
    return queue;
}

static enum leveret_code disagree(const struct lvt_queue *queue, const struct lvt_handler *handler,
                                  const char *option, struct leveret_error *err) {
    return leveret_fail(
        err, LEVERET_CONFIG,
        "handlers %s and %s share queue %s but differ in %s: give both the same, or "
        "each a queue of its own",
        queue->handlers[0]->name, handler->name, queue->name, option);
}

static enum leveret_code check_queue(const struct lvt_queue *queue,
                                     const struct lvt_handler *handler, struct leveret_error *err) {
    const struct lvt_handler_options *options = &handler->options;
    if (queue->type != options->queue_type)
        return disagree(queue, handler, "queue_type", err);
    if (strcmp(queue->exchange, options->exchange) != 0)
        return disagree(queue, handler, "exchange", err);
    if (strcmp(queue->dead_letter, options->dead_letter) != 0)
        return disagree(queue, handler, "dead_letter", err);
    if (queue->message_ttl_ms != options->message_ttl_ms)
        return disagree(queue, handler, "message_ttl_ms", err);
    if (queue->max_priority != options->max_priority)
        return disagree(queue, handler, "max_priority", err);
    if (queue->envelope != options->envelope)
        return disagree(queue, handler, "envelope", err);
    return LEVERET_OK;
}

/* No type may fit two handlers equally well. */
static enum leveret_code check_events(const struct lvt_queue *queue,
                                      const struct lvt_handler *handler,
                                      struct leveret_error *err) {
    for (size_t i = 0; i < queue->handler_count; i++) {
        const struct lvt_strings *theirs = &queue->handlers[i]->options.events;
        const struct lvt_strings *ours = &handler->options.events;
        for (size_t j = 0; j < theirs->count * ours->count; j++) {
            const char *a = theirs->items[j / ours->count];
            const char *b = ours->items[j % ours->count];
            if (specificity(a) == specificity(b) && overlap(lvt_bytes_of(a), lvt_bytes_of(b)))
                return leveret_fail(
                    err, LEVERET_CONFIG,
                    "handlers %s (%s) and %s (%s) both take the same events of queue "
                    "%s: change the events of one, or give it a queue of its own",
                    queue->handlers[i]->name, a, handler->name, b, queue->name);
        }
    }
    return LEVERET_OK;
}

static bool append(void *list, size_t *count, void *item) {
    void ***items = list;
    void **grown = realloc(*items, (*count + 1) * sizeof *grown);
    if (!grown)
        return false;
    grown[(*count)++] = item;
    *items = grown;
    return true;
}

static bool add_binds(struct lvt_queue *queue, const struct lvt_strings *keys) {
    for (size_t i = 0; i < keys->count; i++) {
        bool known = false;
        for (size_t j = 0; j < queue->bind.count; j++)
            known |= strcmp(queue->bind.items[j], keys->items[i]) == 0;
        char *copy = known ? NULL : strdup(keys->items[i]);
        if (!known && (!copy || !append(&queue->bind.items, &queue->bind.count, copy))) {
            free(copy);
            return false;
        }
    }
    return true;
}

static bool join_queue(struct lvt_queue *queue, struct lvt_handler *handler) {
    const struct lvt_handler_options *options = &handler->options;
    if (!options->bind_none &&
        !add_binds(queue, options->bind.count > 0 ? &options->bind : &options->events))
        return false;
    if (!append(&queue->handlers, &queue->handler_count, handler))
        return false;
    /* Events that wait for a turn must not keep those that run from being joined by others. */
    uint64_t window = 0;
    for (size_t i = 0; i < queue->handler_count; i++)
        window += 2 * (uint64_t)queue->handlers[i]->options.concurrency;
    if (options->prefetch > queue->prefetch)
        queue->prefetch = options->prefetch;
    if (window > queue->prefetch)
        queue->prefetch = window < PREFETCH_MAX ? (uint32_t)window : PREFETCH_MAX;
    return true;
}

static enum leveret_code default_events(struct lvt_handler *handler, struct leveret_error *err) {
    struct lvt_strings *events = &handler->options.events;
    if (events->count > 0)
        return LEVERET_OK;
    char *name = strdup(handler->name);
    if (name && append(&events->items, &events->count, name))
        return LEVERET_OK;
    free(name);
    return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
}

static struct lvt_queue *find_queue(const struct lvt_routes *routes, const char *name) {
    for (size_t i = 0; i < routes->queue_count; i++)
        if (strcmp(routes->queues[i]->name, name) == 0)
            return routes->queues[i];
    return NULL;
}

/* The handler's queue: the one of that name, when it agrees with it, or a new one. */
static enum leveret_code find_or_add_queue(struct lvt_routes *routes,
                                           const struct lvt_handler *handler,
                                           struct lvt_queue **ret_queue,
                                           struct leveret_error *err) {
    struct lvt_queue *queue = new_queue(handler);
    if (!queue)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    struct lvt_queue *known = find_queue(routes, queue->name);
    if (known) {
        free_queue(queue);
        enum leveret_code code = check_queue(known, handler, err);
        if (code == LEVERET_OK)
            code = check_events(known, handler, err);
        if (code == LEVERET_OK)
            *ret_queue = known;
        return code;
    }
    if (!append(&routes->queues, &routes->queue_count, queue)) {
        free_queue(queue);
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    }
    *ret_queue = queue;
    return LEVERET_OK;
}

/* Everything but handler->queue, which is not written before it is known that all goes well. */
static enum leveret_code place(struct lvt_routes *routes, struct lvt_handler *handler,
                               struct lvt_queue **ret_queue, struct leveret_error *err) {
    enum leveret_code code = default_events(handler, err);
    if (code == LEVERET_OK)
        code = find_or_add_queue(routes, handler, ret_queue, err);
    if (code != LEVERET_OK)
        return code;
    /* Room first: what follows must not fail once the queue knows the handler. */
    void **grown = realloc(routes->handlers, (routes->handler_count + 1) * sizeof *grown);
    if (grown)
        routes->handlers = (struct lvt_handler **)grown;
    if (!grown || !join_queue(*ret_queue, handler))
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    routes->handlers[routes->handler_count++] = handler;
    return LEVERET_OK;
}

enum leveret_code lvt_routes_add(struct lvt_routes *routes, struct lvt_handler *handler,
                                 struct leveret_error *err) {
    struct lvt_queue *queue = NULL;
    enum leveret_code code = place(routes, handler, &queue, err);
    if (code == LEVERET_OK)
        handler->queue = queue;
    return code;
}

/* ---- changes ---- */

/* What is in this handler's place once the changes are made; NULL: nothing. */
static struct lvt_handler *changed(struct lvt_handler *handler,
                                   const struct lvt_handler_change *changes, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (changes[i].old == handler)
            return changes[i].next;
    return handler;
}

/* The routes as they are to be, made from nothing: what a queue is like depends on all of its
 * handlers. */
static enum leveret_code plan(const struct lvt_routes *routes,
                              const struct lvt_handler_change *changes, size_t count,
                              struct lvt_routes *next, struct leveret_error *err) {
    enum leveret_code code = LEVERET_OK;
    struct lvt_queue *queue;
    for (size_t i = 0; i < routes->handler_count && code == LEVERET_OK; i++) {
        struct lvt_handler *handler = changed(routes->handlers[i], changes, count);
        if (handler)
            code = place(next, handler, &queue, err);
    }
    for (size_t i = 0; i < count && code == LEVERET_OK; i++)
        if (!changes[i].old)
            code = place(next, changes[i].next, &queue, err);
    return code;
}

static void swap_queues(struct lvt_queue *a, struct lvt_queue *b) {
    struct lvt_queue old = *a;
    *a = *b;
    *b = old;
    b->name = a->name; /* which others point to */
    a->name = old.name;
    a->held = old.held; /* of its events, which stay */
}

/* There is room for the new queues. */
static void carry_out(struct lvt_routes *routes, struct lvt_routes *next) {
    for (size_t i = 0; i < routes->queue_count; i++)
        routes->queues[i]->handler_count = 0;
    for (size_t i = 0; i < next->queue_count; i++) {
        struct lvt_queue *queue = find_queue(routes, next->queues[i]->name);
        if (queue) {
            swap_queues(queue, next->queues[i]);
        } else {
            queue = routes->queues[routes->queue_count++] = next->queues[i];
            next->queues[i] = NULL;
        }
        for (size_t j = 0; j < queue->handler_count; j++)
            queue->handlers[j]->queue = queue;
    }
    struct lvt_handler **handlers = routes->handlers;
    routes->handlers = next->handlers;
    routes->handler_count = next->handler_count;
    next->handlers = handlers;
}

enum leveret_code lvt_routes_change(struct lvt_routes *routes,
                                    const struct lvt_handler_change *changes, size_t count,
                                    struct leveret_error *err) {
    struct lvt_routes next = {0};
    enum leveret_code code = plan(routes, changes, count, &next, err);
    size_t queue_max = routes->queue_count + next.queue_count;
    void **room = code == LEVERET_OK && queue_max > 0
                      ? realloc(routes->queues, queue_max * sizeof *room)
                      : NULL;
    if (room)
        routes->queues = (struct lvt_queue **)room;
    else if (code == LEVERET_OK && queue_max > 0)
        code = leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    if (code == LEVERET_OK)
        carry_out(routes, &next);
    next.handler_count = 0; /* none of them is its own */
    lvt_routes_free(&next);
    return code;
}

size_t lvt_routes_given(const struct lvt_routes *routes) {
    size_t count = 0;
    for (size_t i = 0; i < routes->handler_count; i++)
        count += !routes->handlers[i]->forwards;
    return count;
}
