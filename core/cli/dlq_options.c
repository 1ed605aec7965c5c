#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cli/dlq.h"
#include "config/keys.h"

#define LIST (1u << LVT_DLQ_LIST)
#define SHOW (1u << LVT_DLQ_SHOW)
#define REPLAY (1u << LVT_DLQ_REPLAY)
#define DISCARD (1u << LVT_DLQ_DISCARD)
#define EVERY (LIST | SHOW | REPLAY | DISCARD)

static bool set_config(struct lvt_dlq_options *options, const char *value) {
    options->config = value;
    return true;
}

static bool add_queue(struct lvt_dlq_options *options, const char *value) {
    if (value[0] == '\0' || options->filter.queue_count == LVT_FILTER_QUEUES_MAX)
        return false;
    options->filter.queues[options->filter.queue_count++] = value;
    return true;
}

static bool set_event(struct lvt_dlq_options *options, const char *value) {
    options->filter.event = value;
    return value[0] != '\0';
}

static bool set_id(struct lvt_dlq_options *options, const char *value) {
    options->filter.id = value;
    return value[0] != '\0';
}

static bool set_fingerprint(struct lvt_dlq_options *options, const char *value) {
    options->filter.fingerprint = value;
    return strlen(value) == LVT_FINGERPRINT_LEN &&
           strspn(value, "0123456789abcdef") == LVT_FINGERPRINT_LEN;
}

static bool time_before(const char *value, int64_t *ret_s) {
    double age_ms;
    if (!lvt_duration_parse(value, &age_ms))
        return false;
    int64_t now_s = (int64_t)time(NULL), age_s = (int64_t)(age_ms / 1000);
    *ret_s = now_s > age_s ? now_s - age_s : 0;
    return true;
}

static bool set_older(struct lvt_dlq_options *options, const char *value) {
    return time_before(value, &options->filter.failed_before_s);
}

static bool set_newer(struct lvt_dlq_options *options, const char *value) {
    return time_before(value, &options->filter.failed_after_s);
}

static bool set_limit(struct lvt_dlq_options *options, const char *value) {
    size_t digits = strspn(value, "0123456789");
    if (digits == 0 || digits > 15 || value[digits] != '\0')
        return false;
    options->limit = strtoull(value, NULL, 10);
    return options->limit > 0;
}

/* 100, 0.5 or 100/s */
static bool set_rate(struct lvt_dlq_options *options, const char *value) {
    char *end;
    options->rate = strtod(value, &end);
    return end > value && (*end == '\0' || strcmp(end, "/s") == 0) && isfinite(options->rate) &&
           options->rate >= 0.001;
}

static bool set_json(struct lvt_dlq_options *options, const char *value) {
    (void)value;
    return options->json = true;
}

static bool set_raw(struct lvt_dlq_options *options, const char *value) {
    (void)value;
    return options->raw = true;
}

static bool set_dry_run(struct lvt_dlq_options *options, const char *value) {
    (void)value;
    return options->dry_run = true;
}

static bool set_all(struct lvt_dlq_options *options, const char *value) {
    (void)value;
    return options->all = true;
}

static bool set_yes(struct lvt_dlq_options *options, const char *value) {
    (void)value;
    return options->yes = true;
}

static const struct option {
    const char *name;
    const char *wants; /* NULL: no value */
    unsigned verbs;
    bool (*set)(struct lvt_dlq_options *options, const char *value);
} known[] = {
    {"--config", "a file", EVERY, set_config},
    {"--queue", "the name of a queue", EVERY, add_queue},
    {"--event", "an event type or a pattern such as ticket.*", EVERY, set_event},
    {"--id", "an event's id", EVERY, set_id},
    {"--fingerprint", "eight digits as dlq list shows them", EVERY, set_fingerprint},
    {"--older", "an age, such as 2h or 7d", EVERY, set_older},
    {"--newer", "an age, such as 2h or 7d", EVERY, set_newer},
    {"--limit", "a whole number from 1 on", SHOW | REPLAY | DISCARD, set_limit},
    {"--rate", "letters per second, such as 50 or 0.5/s", REPLAY, set_rate},
    {"--dry-run", NULL, REPLAY | DISCARD, set_dry_run},
    {"--all", NULL, DISCARD, set_all},
    {"--yes", NULL, DISCARD, set_yes},
    {"--raw", NULL, SHOW, set_raw},
    {"--json", NULL, EVERY, set_json},
};

static const struct option *find(const char *argument, unsigned verb) {
    size_t len = strcspn(argument, "=");
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strlen(known[i].name) == len && strncmp(argument, known[i].name, len) == 0)
            return known[i].verbs & (1u << verb) ? &known[i] : NULL;
    return NULL;
}

static int check(const struct lvt_dlq_options *options) {
    if (options->verb != LVT_DLQ_DISCARD)
        return -1;
    if (!lvt_letter_filter_given(&options->filter) && !options->all)
        return lvt_program_usage("dlq", "discard wants to know which letters: a filter, or --all");
    bool can_ask = isatty(STDIN_FILENO) && isatty(STDERR_FILENO) && !options->json;
    if (!options->dry_run && !options->yes && !can_ask)
        return lvt_program_usage("dlq",
                                 "discard cannot ask whether it should: say --yes, or look "
                                 "first with --dry-run");
    return -1;
}

int lvt_dlq_options_read(int argc, char **argv, struct lvt_dlq_options *ret) {
    for (int i = 1; i < argc; i++) {
        const char *argument = strcmp(argv[i], "-c") == 0 ? "--config" : argv[i];
        const struct option *option = find(argument, ret->verb);
        const char *value = strchr(argument, '=');
        if (!option || (value && !option->wants))
            return lvt_program_usage("dlq", "dlq %s does not know %s", argv[0], argv[i]);
        if (value)
            value++;
        else if (option->wants && i + 1 < argc)
            value = argv[++i];
        if (option->wants && !value)
            return lvt_program_usage("dlq", "%s wants %s", option->name, option->wants);
        if (!option->set(ret, value))
            return lvt_program_usage("dlq", "%s wants %s, not \"%s\"", option->name, option->wants,
                                     value);
    }
    return check(ret);
}
