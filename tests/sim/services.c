/* Redis and HTTP, as far as a handler sees them. */
#include <stdio.h>
#include <stdlib.h>

#include "sim.h"

static struct sim_question *take(struct sim_worker *worker, uint64_t number) {
    struct sim_question **at = &worker->questions;
    while (*at && (*at)->number != number)
        at = &(*at)->next;
    struct sim_question *question = *at;
    if (question)
        *at = question->next;
    return question;
}

static void note_invalidated(struct sim *sim, const char *pattern) {
    unsigned fact = (unsigned)strtoul(pattern + 2, NULL, 10); /* behind "k:" */
    if (fact < sim->fact_count)
        sim->invalidated_ms[fact] = sim->now_ms;
}

static void answer_http(const struct sim_question *question, enum lvt_answer answer) {
    const struct lvt_http_response response = {.status = 200};
    question->http(question->ctx, answer == LVT_ANSWER_OK ? &response : NULL,
                   answer == LVT_ANSWER_OK ? NULL : "no answer");
}

static void answered(struct sim *sim, struct sim_worker *worker, uint64_t number, uint64_t kind) {
    struct sim_question *question = take(worker, number);
    const struct lvt_reply reply = {.kind = LVT_REPLY_INTEGER, .integer = 1};
    enum lvt_answer answer = (enum lvt_answer)kind;
    if (!question)
        return;
    const char *error = answer == LVT_ANSWER_OK ? NULL : "a fault";
    if (question->http) {
        answer_http(question, answer);
    } else if (question->reply) {
        worker->signs += question->ping && answer != LVT_ANSWER_OUTAGE;
        question->reply(question->ctx, answer, answer == LVT_ANSWER_OK ? &reply : NULL, error);
    } else {
        if (answer == LVT_ANSWER_OK)
            note_invalidated(sim, question->pattern);
        question->invalidate(question->ctx, answer, 1, error);
    }
    free(question);
    sim_worker_wake(worker);
}

static struct sim_question *ask(struct sim_worker *worker, void *ctx) {
    struct sim *sim = worker->sim;
    struct sim_question *question = sim_alloc(sizeof *question);
    enum lvt_answer answer = sim_bad_luck(sim, 40) ? LVT_ANSWER_OUTAGE : LVT_ANSWER_OK;
    uint64_t delay_ms = sim_latency(sim);
    question->number = ++sim->last_number;
    question->ctx = ctx;
    question->next = worker->questions;
    worker->questions = question;
    if (sim->cache_down) {
        answer = LVT_ANSWER_OUTAGE;
        delay_ms = sim_below(sim, 2000);
    }
    sim_after_for(worker, delay_ms, answered, question->number, (uint64_t)answer);
    return question;
}

static void command(void *self, const struct lvt_bytes *argv, size_t argc, lvt_reply_done *done,
                    void *ctx) {
    struct sim_question *question = ask(self, ctx);
    (void)argc;
    question->reply = done;
    question->ping = lvt_bytes_is(argv[0], "PING");
}

static void invalidate(void *self, struct lvt_bytes pattern, lvt_invalidate_done *done, void *ctx) {
    struct sim_question *question = ask(self, ctx);
    question->invalidate = done;
    snprintf(question->pattern, sizeof question->pattern, "%.*s", (int)pattern.len, pattern.data);
}

static void request(void *self, const struct lvt_http_request *request_ignored, lvt_http_done *done,
                    void *ctx) {
    (void)request_ignored;
    ask(self, ctx)->http = done;
}

struct lvt_cache_port sim_cache_port(struct sim_worker *worker) {
    return (struct lvt_cache_port){.self = worker, .command = command, .invalidate = invalidate};
}

struct lvt_http_port sim_http_port(struct sim_worker *worker) {
    return (struct lvt_http_port){.self = worker, .request = request};
}

void sim_questions_clear(struct sim_worker *worker) {
    while (worker->questions) {
        struct sim_question *question = worker->questions;
        worker->questions = question->next;
        free(question);
    }
}
