/* Deletes files or rows that are older than so many days: {"target", "days", "dry_run"}. */
#include <stdlib.h>
#include <string.h>

#include "cleanup/files.h"
#include "cleanup/targets.h"
#include "common/folders.h"
#include "common/json.h"
#include "common/open.h"
#include "common/wanted.h"

#define DAYS_MAX 36500

static const struct leveret_host *host;

struct cleanup {
    struct leveret_text target_table; /* only while it is opened */
    struct lvt_targets targets;
    bool dry_run;
};

static const struct lvt_setting settings[] = {
    {"targets", LVT_SETTING_TABLE, offsetof(struct cleanup, target_table), true, 0},
    {"dry_run", LVT_SETTING_BOOLEAN, offsetof(struct cleanup, dry_run), false, 0},
};
#define SETTING_COUNT (sizeof settings / sizeof *settings)

/* ---- an event ---- */

struct request {
    char *text; /* the target, as the event names it */
    const struct lvt_target *target;
    const char *below; /* the folder below the target's */
    int64_t days;
    bool dry_run;
};

static bool read_request(const struct cleanup *cleanup, struct leveret_text payload,
                         struct request *request, struct lvt_failure *failure) {
    if (!lvt_json_text(host, payload, "/target", "target", NULL, &request->text, failure))
        return false;
    request->target = lvt_targets_find(&cleanup->targets, request->text, &request->below);
    if (!request->target)
        return lvt_failed(failure, LEVERET_REJECT, "the configuration's targets name no \"%.200s\"",
                          request->text);
    if (!host->json_integer(payload, "/days", &request->days) || request->days < 1 ||
        request->days > DAYS_MAX)
        return lvt_failed(failure, LEVERET_REJECT, "days is not a whole number from 1 to %d",
                          DAYS_MAX);
    if (host->json_at(payload, "/dry_run", NULL) != LEVERET_JSON_MISSING &&
        !host->json_boolean(payload, "/dry_run", &request->dry_run))
        return lvt_failed(failure, LEVERET_REJECT, "dry_run is not a boolean");
    request->dry_run = request->dry_run || cleanup->dry_run;
    return true;
}

static void report(struct leveret_event event, const struct request *request, const char *what,
                   int64_t count, int64_t bytes) {
    const struct leveret_field fields[] = {
        leveret_field_text("target", leveret_text_of(request->text)),
        leveret_field_integer("days", request->days),
        leveret_field_integer(what, count),
        leveret_field_integer("bytes", bytes),
    };
    host->event_log(event, LEVERET_LOG_INFO,
                    request->dry_run ? "would be cleaned up (dry run)" : "cleaned up", fields,
                    bytes < 0 ? 3 : 4);
}

static bool is_wanted(void *ctx) {
    return lvt_event_is_wanted(host, ctx);
}

static bool clean_folder(struct leveret_event event, const struct request *request,
                         struct lvt_failure *failure) {
    struct lvt_sweep sweep = {.before = time(NULL) - (time_t)request->days * 86400,
                              .dry_run = request->dry_run,
                              .wanted = is_wanted,
                              .ctx = &event};
    int folder;
    if (!lvt_folder_open(request->target->path, request->below, &folder, failure))
        return false;
    bool done = lvt_sweep_folder(&sweep, folder, failure);
    report(event, request, "files", sweep.files, sweep.bytes);
    return done;
}

/* In the transaction that holds the event's record: deleted once. */
static bool clean_table(struct leveret_event event, const struct request *request,
                        struct lvt_failure *failure) {
    char *sql, days[16];
    snprintf(days, sizeof days, "%lld", (long long)request->days);
    if (asprintf(&sql, "%s from %s where %s < now() - make_interval(days => $1::int)",
                 request->dry_run ? "select count(*)" : "delete", request->target->table,
                 request->target->column) < 0)
        return lvt_failed_memory(failure);
    const struct leveret_text param = leveret_text_of(days);
    const struct leveret_answer *answer =
        host->query(event, leveret_text_of(sql), &param, 1, NULL, NULL);
    free(sql);
    if (answer->status != LEVERET_STATUS_OK)
        return lvt_failed(failure, LEVERET_RETRY, "%.*s", (int)answer->error.len,
                          answer->error.data);
    int64_t rows = answer->count;
    if (request->dry_run && host->json_valid(answer->cells[0]))
        host->json_integer(answer->cells[0], "", &rows);
    report(event, request, "rows", rows, -1);
    return true;
}

static int32_t handle(void *self, struct leveret_event event) {
    struct request request = {0};
    struct lvt_failure failure;
    const struct leveret_event_info *info = host->info(event);
    bool done = info && read_request(self, info->payload, &request, &failure) &&
                (request.target->path ? clean_folder(event, &request, &failure)
                                      : clean_table(event, &request, &failure));
    free(request.text);
    if (done || !info)
        return LEVERET_DONE;
    return host->finish(event, failure.verdict, failure.text, -1);
}

/* ---- the plugin ---- */

static void close_plugin(void *self) {
    struct cleanup *cleanup = self;
    lvt_targets_free(&cleanup->targets);
    lvt_settings_free(settings, SETTING_COUNT, cleanup);
    free(cleanup);
}

static bool fill(void *self, struct leveret_text config, struct lvt_failure *failure) {
    struct cleanup *cleanup = self;
    return lvt_settings_read(host, config, settings, SETTING_COUNT, cleanup, failure) &&
           lvt_targets_read(&cleanup->targets, host, cleanup->target_table, failure);
}

static int32_t open_plugin(struct leveret_handler *handler, struct leveret_text config,
                           void **ret_self, char *error, size_t error_size) {
    (void)handler;
    return lvt_plugin_open(sizeof(struct cleanup), fill, close_plugin, config, ret_self, error,
                           error_size);
}

static const char *const events[] = {"cleanup", NULL};

static const struct leveret_plugin plugin = {
    LEVERET_PLUGIN_HEAD,
    "cleanup",
    "1.0",
    events,
    "{\"queue\": \"cleanup_queue\", \"queue_type\": \"classic\", \"max_priority\": 9, "
    "\"bind\": false, \"dead_letter\": \"failed_queue\", "
    "\"concurrency\": 2, \"timeout_ms\": 600000, \"retry\": {\"base_ms\": 30000, "
    "\"cap_ms\": 600000}}",
    LEVERET_PLUGIN_BLOCKING,
    open_plugin,
    handle,
    close_plugin,
};

const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *the_host) {
    host = the_host;
    return &plugin;
}
