#include "broker/setup.h"

#include <string.h>

#include "broker/declare.h"
#include "broker/ladder.h"

/* One pass: goes on past what is wrong with one queue, and keeps the first such error. */
struct pass {
    struct lvt_broker *broker;
    struct lvt_connection *connection;
    struct lvt_plan plan;
    struct leveret_error problem; /* code LEVERET_OK: none */
    bool forbidden;               /* the user may not declare something */
};

/* ---- problems ---- */

static void note_problem(struct pass *pass, const struct leveret_error *problem) {
    if (pass->problem.code == LEVERET_OK) {
        pass->problem = *problem;
    }
}

/* What to change so that a queue's argument agrees with what exists. */
static const char *setting_for(const char *argument) {
    static const struct {
        const char *argument, *setting;
    } settings[] = {
        {"x-queue-type",
         "set queue_type in the handler, or rabbitmq.queue_type, to the type that "
         "it has"},
        {"x-message-ttl", "set message_ttl_ms in the handler to the value that it has"},
        {"x-max-priority", "set max_priority in the handler to the value that it has"},
        {"x-dead-letter-routing-key",
         "set dead_letter in the handler, or dead_letter.queue, to "
         "the value that it has"},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        if (strcmp(settings[i].argument, argument) == 0) {
            return settings[i].setting;
        }
    }
    return "choose another name with queue in the handler";
}

static const char *permission_hint(const struct lvt_refusal *refusal) {
    return refusal->code == AMQP_ACCESS_REFUSED
               ? "; grant the user the configure, write and read permissions"
               : "";
}

static void queue_refused(struct pass *pass, const char *queue, const struct lvt_refusal *refusal) {
    struct leveret_error problem;
    struct lvt_mismatch mismatch;
    pass->forbidden |= refusal->code == AMQP_ACCESS_REFUSED;
    if (lvt_mismatch_read(refusal, &mismatch)) {
        bool type = strcmp(mismatch.argument, "x-queue-type") == 0;
        leveret_fail(&problem, LEVERET_CONFIG,
                     "the queue \"%s\" exists with another value of %s: leveret wants %s, it has "
                     "%s; %s, or delete the queue once it is empty",
                     queue, mismatch.argument, mismatch.wanted,
                     /* a queue that was declared without a type */
                     type && strcmp(mismatch.found, "none") == 0 ? "'classic'" : mismatch.found,
                     setting_for(mismatch.argument));
    } else {
        leveret_fail(&problem, LEVERET_CONFIG, "RabbitMQ refuses to declare the queue \"%s\": %s%s",
                     queue, refusal->text, permission_hint(refusal));
    }
    note_problem(pass, &problem);
}

static void note_refusal(struct pass *pass, const char *what, const struct lvt_refusal *refusal) {
    struct leveret_error problem;
    pass->forbidden |= refusal->code == AMQP_ACCESS_REFUSED;
    leveret_fail(&problem, LEVERET_CONFIG, "RabbitMQ refuses to set up %s: %s%s", what,
                 refusal->text, permission_hint(refusal));
    note_problem(pass, &problem);
}

/* ---- queues ---- */

/* At-least-once dead-lettering, without which a full or restarting target loses messages. */
static void safe_dead_lettering(struct lvt_arguments *arguments) {
    lvt_argument_text(arguments, "x-dead-letter-strategy", "at-least-once");
    lvt_argument_text(arguments, "x-overflow", "reject-publish");
}

static void ttl_argument(const struct lvt_queue *queue, struct lvt_arguments *arguments) {
    if (queue->message_ttl_ms > 0) {
        lvt_argument_number(arguments, "x-message-ttl", (int64_t)queue->message_ttl_ms);
    }
}

/* Before RabbitMQ 4.0 only classic queues know priorities. */
static enum lvt_queue_type type_of(const struct pass *pass, const struct lvt_queue *queue) {
    bool old = lvt_connection_server_major(pass->connection) < 4;
    return queue->max_priority > 0 && old ? LVT_CLASSIC : queue->type;
}

static void own_arguments(const struct pass *pass, const struct lvt_queue *queue,
                          struct lvt_arguments *arguments) {
    if (type_of(pass, queue) == LVT_QUORUM) {
        lvt_quorum_arguments(arguments);
    } else if (queue->max_priority > 0) {
        lvt_argument_number(arguments, "x-max-priority", queue->max_priority);
    }
    ttl_argument(queue, arguments);
}

/* A queue that is its own dead-letter queue would pass a message round for ever. */
static bool has_dead_letter(const struct lvt_queue *queue) {
    return queue->dead_letter && *queue->dead_letter &&
           strcmp(queue->dead_letter, queue->name) != 0;
}

/* A classic queue that is bound to nothing belongs to the programs that publish straight into it,
 * which declare it without arguments, if at all: with any of ours, theirs would be refused. */
static bool is_plain(const struct lvt_queue *queue) {
    return queue->type == LVT_CLASSIC && queue->bind.count == 0 && queue->max_priority == 0 &&
           queue->message_ttl_ms == 0;
}

static void dead_letter_arguments(const struct lvt_queue *queue, struct lvt_arguments *arguments) {
    if (!has_dead_letter(queue)) {
        return;
    }
    lvt_argument_text(arguments, "x-dead-letter-exchange", "");
    lvt_argument_text(arguments, "x-dead-letter-routing-key", queue->dead_letter);
}

static void set_state(struct pass *pass, struct lvt_queue_state *state, bool declared,
                      bool can_reject) {
    pthread_mutex_lock(&pass->broker->status.mutex);
    state->declared = declared;
    state->can_reject = can_reject;
    pthread_mutex_unlock(&pass->broker->status.mutex);
}

static bool is_declared(const struct pass *pass, const struct lvt_queue_state *state) {
    pthread_mutex_lock(&pass->broker->status.mutex);
    bool declared = state->declared;
    pthread_mutex_unlock(&pass->broker->status.mutex);
    return declared;
}

/* The broker names the first argument that differs. A queue of another type differs in many: ask
 * again without those that only one type has, then for nothing but the type, so that the type is
 * what is named whether the queue was leveret's or somebody else's. */
static enum leveret_code blame_type(struct pass *pass, const struct lvt_queue *queue,
                                    struct lvt_refusal *refusal, struct leveret_error *err) {
    struct lvt_mismatch mismatch;
    if (!lvt_mismatch_read(refusal, &mismatch)) {
        return LEVERET_OK;
    }
    for (int bare = 0; bare < 2; bare++) {
        struct lvt_refusal second;
        struct lvt_arguments arguments = {0};
        lvt_argument_text(&arguments, "x-queue-type",
                          type_of(pass, queue) == LVT_QUORUM ? "quorum" : "classic");
        if (!bare) {
            ttl_argument(queue, &arguments);
            dead_letter_arguments(queue, &arguments);
        }
        enum leveret_code code =
            lvt_declare_queue(pass->connection, queue->name, &arguments, &second, err);
        if (code != LEVERET_OK && code != LEVERET_REFUSED) {
            return code;
        }
        if (code == LEVERET_REFUSED && lvt_mismatch_read(&second, &mismatch) &&
            strcmp(mismatch.argument, "x-queue-type") == 0) {
            *refusal = second;
            break;
        }
    }
    return LEVERET_OK;
}

/* A classic queue that exists is taken as it stands, with dead-lettering or without. Returns
 * LEVERET_REFUSED when that is not what it differs in; what else it does replaces *first. */
static enum leveret_code take_as_it_stands(struct pass *pass, const struct lvt_work *work,
                                           bool dead_lettering, struct lvt_refusal *first,
                                           struct leveret_error *err) {
    const struct lvt_queue_state *state = work->state;
    static const char dead_letter[] = "x-dead-letter-";
    struct lvt_arguments arguments = {0};
    struct lvt_refusal second;
    struct lvt_mismatch mismatch;
    own_arguments(pass, &work->wanted->queue, &arguments);
    if (dead_lettering) {
        dead_letter_arguments(&work->wanted->queue, &arguments);
    }
    enum leveret_code code =
        lvt_declare_queue(pass->connection, state->name, &arguments, &second, err);
    if (code == LEVERET_OK && !dead_lettering && !is_declared(pass, state)) {
        LVT_LOG(pass->broker->log, LVT_INFO,
                "the queue exists without a dead-letter queue of its own: taken as it stands",
                LVT_STRING("queue", state->name));
    }
    if (code == LEVERET_REFUSED && lvt_mismatch_read(&second, &mismatch) &&
        strncmp(mismatch.argument, dead_letter, sizeof dead_letter - 1) != 0) {
        *first = second;
    }
    return code;
}

/* Returns LEVERET_OK also when the queue has a problem, which is then noted. */
static enum leveret_code declare_work_queue(struct pass *pass, const struct lvt_work *work,
                                            struct leveret_error *err) {
    struct lvt_queue_state *state = work->state;
    const struct lvt_queue *queue = &work->wanted->queue;
    enum lvt_queue_type type = type_of(pass, queue);
    if (type != queue->type && !is_declared(pass, state)) {
        LVT_LOG(pass->broker->log, LVT_WARN,
                "max_priority makes this a classic queue, which keeps less through a crash of the "
                "broker: quorum queues have priorities from RabbitMQ 4.0 on",
                LVT_STRING("queue", state->name));
    }
    struct lvt_arguments arguments = {0};
    struct lvt_refusal refusal;
    bool can_reject = has_dead_letter(queue) && !is_plain(queue);
    own_arguments(pass, queue, &arguments);
    if (can_reject) {
        dead_letter_arguments(queue, &arguments);
    }
    if (type == LVT_QUORUM && can_reject) {
        safe_dead_lettering(&arguments);
    }
    enum leveret_code code =
        lvt_declare_queue(pass->connection, state->name, &arguments, &refusal, err);
    bool refused = code == LEVERET_REFUSED;
    if (refused && type == LVT_CLASSIC && refusal.code == AMQP_PRECONDITION_FAILED) {
        can_reject = has_dead_letter(queue) && !can_reject;
        code = take_as_it_stands(pass, work, can_reject, &refusal, err);
        refused = code == LEVERET_REFUSED;
    }
    if (refused) {
        code = blame_type(pass, queue, &refusal, err);
        queue_refused(pass, state->name, &refusal);
    }
    if (code == LEVERET_OK) {
        set_state(pass, state, !refused, can_reject);
    }
    return code;
}

/* A dead-letter queue that exists is taken as it is. */
static enum leveret_code declare_dead_letters(struct pass *pass, struct lvt_queue_state *state,
                                              struct leveret_error *err) {
    struct lvt_arguments arguments = {0};
    struct lvt_refusal refusal;
    lvt_quorum_arguments(&arguments);
    enum leveret_code code =
        lvt_declare_queue(pass->connection, state->name, &arguments, &refusal, err);
    struct lvt_mismatch mismatch;
    if (code == LEVERET_REFUSED) {
        bool exists = lvt_mismatch_read(&refusal, &mismatch);
        if (!exists) {
            queue_refused(pass, state->name, &refusal);
        }
        code = exists ? LEVERET_OK : code;
    }
    if (code == LEVERET_OK || code == LEVERET_REFUSED) {
        set_state(pass, state, code == LEVERET_OK, false);
        return LEVERET_OK;
    }
    return code;
}

/* ---- exchanges and bindings ---- */

/* Somebody else's exchange is taken as it is, if only it is a topic exchange. */
static enum leveret_code declare_exchange(struct pass *pass, const char *name,
                                          struct leveret_error *err) {
    struct lvt_refusal refusal, second;
    enum leveret_code code =
        lvt_declare_exchange(pass->connection, name, "topic", NULL, &refusal, err);
    if (code != LEVERET_REFUSED) {
        return code;
    }
    struct lvt_mismatch mismatch;
    struct leveret_error problem;
    bool differs = lvt_mismatch_read(&refusal, &mismatch);
    if (differs && strcmp(mismatch.argument, "type") == 0) {
        leveret_fail(&problem, LEVERET_CONFIG,
                     "the exchange \"%s\" exists with another type: leveret wants %s, it has %s; "
                     "name a topic exchange in rabbitmq.exchange or in the handler's exchange",
                     name, mismatch.wanted, mismatch.found);
        note_problem(pass, &problem);
        return LEVERET_OK;
    }
    code = lvt_look_for_exchange(pass->connection, name, &second, err);
    if (code == LEVERET_REFUSED) {
        leveret_fail(&problem, LEVERET_CONFIG,
                     "RabbitMQ refuses to declare the exchange \"%s\": %s", name, refusal.text);
        note_problem(pass, &problem);
        return LEVERET_OK;
    }
    return code;
}

/* The default exchange and "" are there without being declared. */
static bool is_named(const char *exchange) {
    return exchange && *exchange;
}

static enum leveret_code declare_exchanges(struct pass *pass, struct leveret_error *err) {
    const struct lvt_broker *broker = pass->broker;
    enum leveret_code code = LEVERET_OK;
    if (is_named(broker->exchange)) {
        code = declare_exchange(pass, broker->exchange, err);
    }
    for (size_t i = 0; i < pass->plan.work_count && code == LEVERET_OK; i++) {
        const char *name = pass->plan.work[i].wanted->queue.exchange;
        bool known = !is_named(name) || (broker->exchange && strcmp(name, broker->exchange) == 0);
        for (size_t j = 0; j < i && !known; j++) {
            const char *other = pass->plan.work[j].wanted->queue.exchange;
            known = other && strcmp(name, other) == 0;
        }
        if (!known) {
            code = declare_exchange(pass, name, err);
        }
    }
    return code;
}

static enum leveret_code bind_one(struct pass *pass, const char *queue, const char *exchange,
                                  const char *key, struct leveret_error *err) {
    struct lvt_refusal refusal;
    enum leveret_code code = lvt_bind_queue(pass->connection, queue, exchange, key, &refusal, err);
    if (code != LEVERET_REFUSED) {
        return code;
    }
    struct leveret_error problem;
    leveret_fail(&problem, LEVERET_CONFIG,
                 "RabbitMQ refuses to bind the queue \"%s\" to the exchange \"%s\" with \"%s\": %s",
                 queue, exchange, key, refusal.text);
    note_problem(pass, &problem);
    return LEVERET_OK;
}

static enum leveret_code bind_work_queue(struct pass *pass, const struct lvt_queue *queue,
                                         struct leveret_error *err) {
    enum leveret_code code = LEVERET_OK;
    for (size_t i = 0; i < queue->bind.count && is_named(queue->exchange); i++) {
        code = bind_one(pass, queue->name, queue->exchange, queue->bind.items[i], err);
        if (code != LEVERET_OK) {
            return code;
        }
    }
    char key[LVT_LADDER_KEY_SIZE];
    lvt_ladder_end_pattern(lvt_bytes_of(queue->name), key);
    return bind_one(pass, queue->name, LVT_LADDER_END, key, err);
}

/* ---- the ladder ---- */

static enum leveret_code ladder_exchange(struct pass *pass, const char *name,
                                         struct lvt_refusal *refusal, struct leveret_error *err) {
    struct lvt_arguments arguments = {0};
    lvt_argument_text(&arguments, "alternate-exchange", LVT_LADDER_UNDELIVERED);
    return lvt_declare_exchange(pass->connection, name, "topic", &arguments, refusal, err);
}

static enum leveret_code bind_level(struct pass *pass, unsigned level, const char *name,
                                    const char *next, struct lvt_refusal *refusal,
                                    struct leveret_error *err) {
    char key[LVT_LADDER_KEY_SIZE];
    lvt_ladder_pattern(level, LVT_LADDER_WAIT, key);
    enum leveret_code code = lvt_bind_queue(pass->connection, name, name, key, refusal, err);
    if (code == LEVERET_OK && level > 0) {
        lvt_ladder_pattern(level, LVT_LADDER_PASS, key);
        code = lvt_bind_exchange(pass->connection, next, name, key, refusal, err);
    }
    if (code == LEVERET_OK) {
        lvt_ladder_pattern(level, LVT_LADDER_LEAVE, key);
        code = lvt_bind_exchange(pass->connection, LVT_LADDER_END, name, key, refusal, err);
    }
    return code;
}

static enum leveret_code declare_level(struct pass *pass, unsigned level,
                                       struct lvt_refusal *refusal, struct leveret_error *err) {
    char name[LVT_LADDER_NAME_SIZE], next[LVT_LADDER_NAME_SIZE] = LVT_LADDER_END;
    lvt_ladder_name(level, name);
    if (level > 0) {
        lvt_ladder_name(level - 1, next);
    }
    struct lvt_arguments arguments = {0};
    lvt_quorum_arguments(&arguments);
    safe_dead_lettering(&arguments);
    lvt_argument_text(&arguments, "x-dead-letter-exchange", next);
    lvt_argument_number(&arguments, "x-message-ttl", lvt_ladder_ttl_ms(level));
    enum leveret_code code = ladder_exchange(pass, name, refusal, err);
    if (code == LEVERET_OK) {
        code = lvt_declare_queue(pass->connection, name, &arguments, refusal, err);
    }
    return code == LEVERET_OK ? bind_level(pass, level, name, next, refusal, err) : code;
}

static enum leveret_code declare_ladder(struct pass *pass, struct leveret_error *err) {
    struct lvt_connection *connection = pass->connection;
    struct lvt_refusal refusal;
    enum leveret_code code =
        lvt_declare_exchange(connection, LVT_LADDER_UNDELIVERED, "fanout", NULL, &refusal, err);
    if (code == LEVERET_OK) {
        code = lvt_bind_queue(connection, LVT_LADDER_UNDELIVERED, LVT_LADDER_UNDELIVERED, "",
                              &refusal, err);
    }
    if (code == LEVERET_OK) {
        code = ladder_exchange(pass, LVT_LADDER_END, &refusal, err);
    }
    for (unsigned level = 0; level < LVT_LADDER_LEVELS && code == LEVERET_OK; level++) {
        code = declare_level(pass, level, &refusal, err);
    }
    if (code == LEVERET_REFUSED) {
        note_refusal(pass, "the delay queues (leveret.delay.*)", &refusal);
        return LEVERET_OK;
    }
    return code;
}

/* A program that only publishes need not be allowed to declare the ladder: where a worker has done
 * that, its last queue is there. */
static enum leveret_code look_for_ladder(struct pass *pass, struct leveret_error *err) {
    struct lvt_refusal refusal;
    uint32_t depth, consumers;
    enum leveret_code code =
        lvt_look_for_queue(pass->connection, LVT_OUTGOING_QUEUE, &depth, &consumers, &refusal, err);
    if (code == LEVERET_REFUSED) {
        return LEVERET_OK; /* then what was noted stands */
    }
    for (size_t i = 0; i < pass->plan.work_count && code == LEVERET_OK; i++) {
        set_state(pass, pass->plan.work[i].state, true, false);
        pass->problem.code = LEVERET_OK;
    }
    return code;
}

/* ---- a pass ---- */

static enum leveret_code set_up(struct pass *pass, struct leveret_error *err) {
    const struct lvt_plan *plan = &pass->plan;
    enum leveret_code code = declare_exchanges(pass, err);
    for (size_t i = 0; i < plan->dead_letter_count && code == LEVERET_OK; i++) {
        code = declare_dead_letters(pass, plan->dead_letters[i], err);
    }
    if (code == LEVERET_OK) {
        code = declare_ladder(pass, err);
    }
    for (size_t i = 0; i < plan->work_count && code == LEVERET_OK; i++) {
        const struct lvt_work *work = &plan->work[i];
        code = declare_work_queue(pass, work, err);
        if (code == LEVERET_OK && is_declared(pass, work->state)) {
            code = bind_work_queue(pass, &work->wanted->queue, err);
        }
    }
    return code;
}

enum leveret_code lvt_setup(struct lvt_broker *broker, struct lvt_connection *connection,
                            struct leveret_error *ret_problem, struct leveret_error *err) {
    struct pass pass = {.broker = broker, .connection = connection};
    enum leveret_code code = lvt_plan_take(broker, &pass.plan, err);
    if (code != LEVERET_OK) {
        return code;
    }
    code = set_up(&pass, err);
    if (code == LEVERET_OK && pass.forbidden && broker->publish_only) {
        code = look_for_ladder(&pass, err);
    }
    if (code == LEVERET_OK) {
        *ret_problem = pass.problem;
    }
    lvt_plan_free(&pass.plan);
    return code;
}
