/* A program with a worker inside: it handles ticket.created itself, and leaves other events to the
 * Lua files in handlers/. The servers come from RABBITMQ_URL, DATABASE_URL and REDIS_URL, other
 * keys from LEVERET_*. Ctrl-C ends it. */
#include <leveret/leveret.h>
#include <signal.h>
#include <stdio.h>

static struct leveret_worker *worker;

static void stop(int signal_number) {
    (void)signal_number;
    leveret_worker_stop(worker);
}

static void print_line(void *ctx, const struct leveret_record *record) {
    fprintf(ctx, "%s\n", leveret_record_line(record));
}

/* ---- the handler: the same as that of a plugin, compiled in ---- */

static int32_t open_handler(struct leveret_handler *handler, struct leveret_text config,
                            void **ret_self, char *error, size_t error_size) {
    (void)handler, (void)config, (void)ret_self, (void)error, (void)error_size;
    return 0;
}

static int32_t handle(void *self, struct leveret_event event) {
    const struct leveret_host *host = leveret_host();
    char ticket[64] = "";
    (void)self;
    if (host->json_string(host->info(event)->payload, "/id", ticket, sizeof ticket) < 0)
        return host->finish(event, LEVERET_REJECT, "a ticket without an id", 0);
    const struct leveret_field field = leveret_field_text("ticket", leveret_text_of(ticket));
    host->event_log(event, LEVERET_LOG_INFO, "created, says C", &field, 1);
    return LEVERET_DONE;
}

static void close_handler(void *self) {
    (void)self;
}

static const char *const events[] = {"ticket.created", NULL};
static const struct leveret_plugin created = {
    LEVERET_PLUGIN_HEAD, "ticket.created", "1.0",         events, NULL, 0,
    open_handler,        handle,           close_handler,
};

int main(void) {
    struct leveret_config *config = NULL;
    struct leveret_error err;
    enum leveret_code code = leveret_config_new(&config, &err);
    if (code == LEVERET_OK)
        code = leveret_config_set(config, "handlers", "handlers", &err);
    if (code == LEVERET_OK)
        code = leveret_config_environment(config, &err);
    if (code == LEVERET_OK)
        code = leveret_worker_new(config, print_line, stdout, &worker, &err);
    leveret_config_free(config);
    if (code == LEVERET_OK)
        code = leveret_worker_add(worker, &created, &err);
    if (code == LEVERET_OK) {
        signal(SIGINT, stop);
        signal(SIGTERM, stop);
        code = leveret_worker_run(worker, &err);
    }
    if (code != LEVERET_OK)
        fprintf(stderr, "embed: %s\n", err.text);
    leveret_worker_free(worker);
    return code == LEVERET_OK ? 0 : 1;
}
