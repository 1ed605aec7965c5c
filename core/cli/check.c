#include <stdio.h>
#include <unistd.h>

#include "cli/program.h"
#include "runtime/lua/lua_check.h"

static const char help[] =
    "usage: leveret check [-c FILE]\n"
    "\n"
    "Reads the configuration and loads the handlers as run does, and prints which events go\n"
    "where. Looks through Lua handlers for functions of ctx, fields of the event and globals that\n"
    "do not exist. Connects to nothing. Ends with 78 when something is wrong; a warning is not.\n";

static void print_list(const struct lvt_strings *list) {
    for (size_t i = 0; i < list->count; i++)
        printf("%s%s", i > 0 ? ", " : "", list->items[i]);
    putchar('\n');
}

/* leveret's, not the user's. */
static bool is_own(const struct lvt_queue *queue) {
    return queue->handlers[0]->forwards;
}

static void print_queue(const struct lvt_queue *queue) {
    printf("queue %s (%s, prefetch %u)\n", queue->name,
           queue->type == LVT_QUORUM ? "quorum" : "classic", queue->prefetch);
    printf("  from exchange  %s\n", queue->exchange[0] ? queue->exchange : "(default)");
    if (queue->bind.count > 0) {
        printf("  bound to       ");
        print_list(&queue->bind);
    }
    printf("  dead letters   %s\n", queue->dead_letter);
    for (size_t i = 0; i < queue->handler_count; i++) {
        const struct lvt_handler *handler = queue->handlers[i];
        const struct lvt_retry_policy *retry = &handler->options.retry;
        printf("  handler        %s (%s, version %s)\n", handler->name, handler->path,
               handler->version);
        if (handler->about)
            printf("    plugin       %s\n", handler->about);
        printf("    events       ");
        print_list(&handler->options.events);
        printf("    retries      %u, from %llu ms by %g to %llu ms\n", retry->max,
               (unsigned long long)retry->base_ms, retry->factor,
               (unsigned long long)retry->cap_ms);
        printf("    limits       timeout %llu ms, concurrency %u\n",
               (unsigned long long)handler->options.timeout_ms, handler->options.concurrency);
    }
}

static void print_service(const char *name, const char *url) {
    char shown[512];
    lvt_url_redact(url, shown, sizeof shown);
    printf("%-11s %s\n", name, shown);
}

/* ---- what runs, and may not do what is meant ---- */

struct findings {
    const char *path; /* of the handler that is looked at */
    unsigned errors, warnings;
};

static void on_finding(void *ctx, const struct lvt_lua_finding *finding) {
    struct findings *findings = ctx;
    unsigned *count = finding->certain ? &findings->errors : &findings->warnings;
    (*count)++;
    fprintf(stderr, "%s:%u: %s: %s\n", findings->path, finding->line,
            finding->certain ? "error" : "warning", finding->text);
}

static bool is_lua(const char *path) {
    size_t len = path ? strlen(path) : 0;
    return len > 4 && strcmp(path + len - 4, ".lua") == 0;
}

static enum leveret_code look_through(const struct lvt_program *program, struct findings *findings,
                                      struct leveret_error *err) {
    enum leveret_code code = LEVERET_OK;
    for (size_t i = 0; i < program->worker->routes.handler_count && code == LEVERET_OK; i++) {
        findings->path = program->worker->routes.handlers[i]->path;
        if (is_lua(findings->path))
            code = lvt_lua_check(findings->path, &program->config, on_finding, findings, err);
    }
    return code;
}

/* Somebody who asks for a small window should know that it is not. */
static void warn_of_windows(const struct lvt_program *program, struct findings *findings) {
    for (size_t i = 0; i < program->worker->routes.queue_count; i++) {
        const struct lvt_queue *queue = program->worker->routes.queues[i];
        uint32_t asked = 0;
        for (size_t j = 0; j < queue->handler_count; j++)
            if (queue->handlers[j]->options.prefetch > asked)
                asked = queue->handlers[j]->options.prefetch;
        if (queue->prefetch <= asked)
            continue;
        findings->warnings++;
        fprintf(stderr,
                "queue %s: warning: prefetch is raised from %u to %u, twice its handlers' "
                "concurrency: lower that for a smaller window\n",
                queue->name, asked, queue->prefetch);
    }
}

static void print_all(const struct lvt_program *program) {
    print_service("rabbitmq", program->config.rabbitmq.url);
    print_service("postgres", program->config.postgres.url);
    print_service("redis", program->config.redis.url);
    for (size_t i = 0; i < program->worker->routes.queue_count; i++)
        if (!is_own(program->worker->routes.queues[i]))
            print_queue(program->worker->routes.queues[i]);
}

static int print_verdict(const struct lvt_program *program, const struct findings *findings) {
    if (findings->errors > 0) {
        fprintf(stderr, "leveret: %u error%s in the handlers\n", findings->errors,
                findings->errors > 1 ? "s" : "");
        return LVT_EXIT_CONFIG;
    }
    size_t handlers = 0, queues = 0;
    for (size_t i = 0; i < program->worker->routes.queue_count; i++) {
        const struct lvt_queue *queue = program->worker->routes.queues[i];
        queues += !is_own(queue);
        handlers += is_own(queue) ? 0 : queue->handler_count;
    }
    printf("ok: %zu handler%s on %zu queue%s", handlers, handlers == 1 ? "" : "s", queues,
           queues == 1 ? "" : "s");
    if (findings->warnings > 0)
        printf(", %u warning%s", findings->warnings, findings->warnings > 1 ? "s" : "");
    putchar('\n');
    return LVT_EXIT_OK;
}

int lvt_command_check(int argc, char **argv) {
    struct lvt_program program = {.log_fd = STDERR_FILENO};
    struct findings findings = {0};
    struct leveret_error err;
    const char *config_path = NULL;
    const char *const flags[] = {NULL};
    int status = lvt_program_options(argc, argv, help, flags, NULL, &config_path);
    if (status >= 0)
        return status;
    enum leveret_code code = lvt_program_configure(&program, config_path, &err);
    if (code == LEVERET_OK)
        code = lvt_program_make_worker(&program, &err);
    if (code == LEVERET_OK)
        code = lvt_worker_prepare(program.worker, &err); /* reads every address */
    if (code == LEVERET_OK) {
        print_all(&program);
        warn_of_windows(&program, &findings);
        code = look_through(&program, &findings, &err);
    }
    status = code == LEVERET_OK ? print_verdict(&program, &findings) : lvt_program_fail(&err);
    lvt_program_done(&program);
    return status;
}
