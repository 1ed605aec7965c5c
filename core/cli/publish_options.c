#include "cli/publish_options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/program.h"
#include "config/keys.h"

#define WAIT_MS 30000
/* The largest body that any configuration allows. */
#define FILE_MAX_BYTES 134217728
#define TIME_MAX_MS 1e15

static const char help[] =
    "usage: leveret publish EVENT [BODY, @FILE or -] [OPTIONS]\n"
    "       leveret publish - [OPTIONS]\n"
    "\n"
    "Publishes an event and prints its id once RabbitMQ has confirmed it. BODY is the payload, a\n"
    "JSON object; from a file after @, or from standard input with -. Without it: {}.\n"
    "\n"
    "With - in the place of EVENT it reads one event a line from standard input, such as\n"
    "{\"event\": \"ticket.created\", \"payload\": {}} or any other known envelope, keeps many in\n"
    "flight, and tells how many were confirmed. Ctrl-C ends it when those have been answered, and\n"
    "tells which line was the last.\n"
    "\n"
    "  --id ID            the event's id (default: a new UUID)\n"
    "  --header K=V       a header; may be given several times\n"
    "  --delay TIME       handled no sooner than that: 500ms, 5s, 10m, 25h, 3d; a number\n"
    "                     alone is milliseconds\n"
    "  --ttl TIME         dead-lettered when it has waited that long in its queue\n"
    "  --priority N       0 to 255\n"
    "  --max-attempts N   runs, instead of what the handler says\n"
    "  --exchange X       to this exchange (default: rabbitmq.exchange)\n"
    "  --queue Q          straight to this queue\n"
    "  --wait TIME        how long to wait for RabbitMQ (default: 30s; 0: it must be there now)\n"
    "  -c, --config FILE  the configuration (default: leveret.lua, where there is one)\n"
    "\n"
    "Exit codes: 0 confirmed, 64 what was asked for is wrong, 66 standard input cannot be read, "
    "69\n"
    "RabbitMQ is away or did not answer in time, 78 no queue takes it, or RabbitMQ refuses it, "
    "130\n"
    "interrupted.\n";

/* What an option's value is read into. */
typedef int reader(struct lvt_publish_options *options, const char *name, const char *value);

static int wrong(const char *name, const char *value, const char *wanted) {
    return lvt_program_usage("publish", "%s %s: %s is expected", name, value, wanted);
}

static int read_id(struct lvt_publish_options *options, const char *name, const char *value) {
    options->outgoing.id = lvt_bytes_of(value);
    return value[0] ? -1 : wrong(name, "\"\"", "an id");
}

static int read_exchange(struct lvt_publish_options *options, const char *name, const char *value) {
    (void)name;
    options->outgoing.exchange = lvt_bytes_of(value);
    return -1;
}

static int read_queue(struct lvt_publish_options *options, const char *name, const char *value) {
    options->outgoing.queue = lvt_bytes_of(value);
    return value[0] ? -1 : wrong(name, "\"\"", "a queue");
}

static int read_config(struct lvt_publish_options *options, const char *name, const char *value) {
    (void)name;
    options->config_path = value;
    return -1;
}

static int read_header(struct lvt_publish_options *options, const char *name, const char *value) {
    const char *equals = strchr(value, '=');
    if (!equals || equals == value)
        return wrong(name, value, "NAME=VALUE");
    if (options->outgoing.header_count == LVT_OUTGOING_HEADERS_MAX)
        return lvt_program_usage("publish", "more than %d headers", LVT_OUTGOING_HEADERS_MAX);
    options->headers[options->outgoing.header_count++] =
        (struct lvt_header){.name = lvt_bytes(value, (size_t)(equals - value)),
                            .kind = LVT_HEADER_STRING,
                            .value.bytes = lvt_bytes_of(equals + 1)};
    return -1;
}

static int read_duration(const char *name, const char *value, uint64_t *ret_ms) {
    double ms;
    if (lvt_duration_parse(value, &ms) && ms <= TIME_MAX_MS) {
        *ret_ms = (uint64_t)ms;
        return -1;
    }
    return wrong(name, value, "a time such as 500ms, 5s, 10m, 25h or 3d");
}

static int read_delay(struct lvt_publish_options *options, const char *name, const char *value) {
    return read_duration(name, value, &options->outgoing.delay_ms);
}

static int read_ttl(struct lvt_publish_options *options, const char *name, const char *value) {
    return read_duration(name, value, &options->outgoing.ttl_ms);
}

static int read_wait(struct lvt_publish_options *options, const char *name, const char *value) {
    return read_duration(name, value, &options->wait_ms);
}

/* False when it is no whole number of 32 bits from `least`. */
static bool read_number(const char *value, long least, long most, long *ret) {
    char *end;
    errno = 0;
    *ret = strtol(value, &end, 10);
    return value[0] && !*end && errno == 0 && *ret >= least && *ret <= most;
}

static int read_priority(struct lvt_publish_options *options, const char *name, const char *value) {
    long number;
    if (!read_number(value, 0, UINT8_MAX, &number))
        return wrong(name, value, "a whole number from 0 to 255");
    options->outgoing.priority = (int)number;
    return -1;
}

static int read_attempts(struct lvt_publish_options *options, const char *name, const char *value) {
    long number;
    if (!read_number(value, 1, INT32_MAX, &number))
        return wrong(name, value, "a whole number from 1");
    options->outgoing.max_attempts = (uint32_t)number;
    return -1;
}

static const struct {
    const char *name;
    reader *read;
} known[] = {
    {"--id", read_id},         {"--header", read_header},     {"--delay", read_delay},
    {"--ttl", read_ttl},       {"--priority", read_priority}, {"--max-attempts", read_attempts},
    {"--queue", read_queue},   {"--exchange", read_exchange}, {"--wait", read_wait},
    {"--config", read_config}, {"-c", read_config},
};

/* The option's value: behind a =, or the next argument. */
static int read_option(int argc, char **argv, int *at, struct lvt_publish_options *options) {
    const char *argument = argv[*at];
    size_t len = strcspn(argument, "=");
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strlen(known[i].name) != len || strncmp(known[i].name, argument, len) != 0)
            continue;
        if (argument[len] == '=')
            return known[i].read(options, known[i].name, argument + len + 1);
        if (++*at == argc)
            return lvt_program_usage("publish", "%s wants a value", argument);
        return known[i].read(options, known[i].name, argv[*at]);
    }
    return lvt_program_usage("publish", "publish does not know %s", argument);
}

static int read_stream(struct lvt_publish_options *options, FILE *file, const char *name) {
    struct lvt_buffer body;
    char chunk[65536];
    size_t count;
    lvt_buffer_init(&body, FILE_MAX_BYTES);
    while ((count = fread(chunk, 1, sizeof chunk, file)) > 0)
        lvt_buffer_append(&body, chunk, count);
    if (ferror(file) || body.failed) {
        const char *why = body.failed ? "it is too big" : strerror(errno);
        lvt_buffer_free(&body);
        return lvt_program_usage("publish", "cannot read %s: %s", name, why);
    }
    options->body = body.data;
    options->outgoing.payload = lvt_bytes(body.data, body.len);
    return -1;
}

static int read_body(struct lvt_publish_options *options, const char *body) {
    if (strcmp(body, "-") == 0)
        return read_stream(options, stdin, "standard input");
    if (body[0] != '@') {
        options->outgoing.payload = lvt_bytes_of(body);
        return -1;
    }
    FILE *file = fopen(body + 1, "rb");
    if (!file)
        return lvt_program_usage("publish", "cannot open %s: %s", body + 1, strerror(errno));
    int status = read_stream(options, file, body + 1);
    fclose(file);
    return status;
}

static int check(struct lvt_publish_options *options, const char *event, const char *body) {
    if (!event)
        return lvt_program_usage("publish", "publish wants an event's type, or - for lines");
    if (options->outgoing.exchange.data && options->outgoing.queue.len > 0)
        return lvt_program_usage("publish", "--exchange and --queue exclude each other");
    options->lines = strcmp(event, "-") == 0;
    if (options->lines && (body || options->outgoing.id.len > 0))
        return lvt_program_usage("publish", "with lines from standard input there is no %s",
                                 body ? "BODY" : "--id");
    options->outgoing.event = lvt_bytes_of(event);
    return body ? read_body(options, body) : -1;
}

int lvt_publish_options_read(int argc, char **argv, struct lvt_publish_options *ret) {
    const char *event = NULL, *body = NULL;
    int status = -1;
    *ret = (struct lvt_publish_options){
        .wait_ms = WAIT_MS,
        .outgoing = {.payload = LVT_LITERAL("{}"), .priority = LVT_NO_PRIORITY}};
    ret->outgoing.headers = ret->headers;
    for (int i = 1; i < argc && status < 0; i++) {
        const char *argument = argv[i];
        if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
            fputs(help, stdout);
            return LVT_EXIT_OK;
        }
        if (argument[0] == '-' && argument[1] != '\0')
            status = read_option(argc, argv, &i, ret);
        else if (!event)
            event = argument;
        else if (!body)
            body = argument;
        else
            status = lvt_program_usage("publish", "what is %s?", argument);
    }
    return status < 0 ? check(ret, event, body) : status;
}

void lvt_publish_options_free(struct lvt_publish_options *options) {
    free(options->body);
}
