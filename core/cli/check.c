#include <stdio.h>
#include <unistd.h>

#include "cli/program.h"
#include "lane/lane.h"

static const char help[] =
    "usage: leveret check [-c FILE]\n"
    "\n"
    "Reads the configuration and loads the handlers as run does, and prints which events go\n"
    "where. Connects to nothing. Ends with 78 when something is wrong.\n";

static void print_list(const struct lvt_strings *list) {
    for (size_t i = 0; i < list->count; i++)
        printf("%s%s", i > 0 ? ", " : "", list->items[i]);
    putchar('\n');
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

/* A lane that is made, and not run, has read every address and connected to none. */
static enum leveret_code try_lane(struct lvt_program *program, struct leveret_error *err) {
    const struct lvt_lane_options options = {&program->config, &program->routes, &program->log};
    struct lvt_lane *lane;
    enum leveret_code code = lvt_lane_new(&options, &lane, err);
    if (code == LEVERET_OK)
        lvt_lane_free(lane);
    return code;
}

int lvt_command_check(int argc, char **argv) {
    struct lvt_program program = {.log_fd = STDERR_FILENO};
    struct leveret_error err;
    const char *config_path = NULL;
    const char *const flags[] = {NULL};
    int status = lvt_program_options(argc, argv, help, flags, NULL, &config_path);
    if (status >= 0)
        return status;
    enum leveret_code code = lvt_program_configure(&program, config_path, &err);
    if (code == LEVERET_OK)
        code = lvt_program_load_handlers(&program, &err);
    if (code == LEVERET_OK)
        code = try_lane(&program, &err);
    if (code == LEVERET_OK) {
        print_service("rabbitmq", program.config.rabbitmq.url);
        print_service("postgres", program.config.postgres.url);
        print_service("redis", program.config.redis.url);
        for (size_t i = 0; i < program.routes.queue_count; i++)
            print_queue(program.routes.queues[i]);
        printf("ok: %zu handlers on %zu queues\n", program.routes.handler_count,
               program.routes.queue_count);
    }
    status = code == LEVERET_OK ? LVT_EXIT_OK : lvt_program_fail(&err);
    lvt_program_done(&program);
    return status;
}
