/* Dumps a PostgreSQL database into a folder: {"database", "path", "compress"}. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backup/databases.h"
#include "backup/dump.h"
#include "common/folders.h"
#include "common/json.h"
#include "common/open.h"
#include "common/wanted.h"

#define ID_MAX 128
#define FILE_NAME_SIZE (LVT_DATABASE_NAME_MAX + ID_MAX + sizeof "-.dump")

static const struct leveret_host *host;

struct backup {
    char *pg_dump, *pg_restore;
    struct leveret_text root_list, database_table; /* only while it is opened */
    struct lvt_roots roots;
    struct lvt_databases databases;
};

static const struct lvt_setting settings[] = {
    {"roots", LVT_SETTING_LIST, offsetof(struct backup, root_list), true, 0},
    {"databases", LVT_SETTING_TABLE, offsetof(struct backup, database_table), true, 0},
    {"pg_dump", LVT_SETTING_TEXT, offsetof(struct backup, pg_dump), false, 0},
    {"pg_restore", LVT_SETTING_TEXT, offsetof(struct backup, pg_restore), false, 0},
};
#define SETTING_COUNT (sizeof settings / sizeof *settings)

/* ---- an event ---- */

struct request {
    char *name, *path;
    const struct lvt_database *database;
    bool compress;
};

static bool read_request(const struct backup *backup, struct leveret_text payload,
                         struct request *request, struct lvt_failure *failure) {
    request->compress = true;
    if (!lvt_json_text(host, payload, "/database", "database", NULL, &request->name, failure) ||
        !lvt_database_name_check(request->name, failure) ||
        !lvt_json_text(host, payload, "/path", "path", NULL, &request->path, failure))
        return false;
    if (host->json_at(payload, "/compress", NULL) != LEVERET_JSON_MISSING &&
        !host->json_boolean(payload, "/compress", &request->compress))
        return lvt_failed(failure, LEVERET_REJECT, "compress is not a boolean");
    request->database = lvt_databases_find(&backup->databases, request->name);
    if (!request->database)
        return lvt_failed(failure, LEVERET_REJECT, "the configuration's databases name no \"%s\"",
                          request->name);
    return true;
}

/* With the event's id, so that its second run replaces the dump of the first. */
static void name_file(const struct request *request, struct leveret_text id,
                      char name[FILE_NAME_SIZE]) {
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";
    char text[ID_MAX + 1];
    snprintf(text, sizeof text, "%.*s", (int)(id.len < sizeof text ? id.len : 0), id.data);
    if (id.len == 0 || strspn(text, allowed) != id.len) {
        struct tm tm;
        const time_t now = time(NULL);
        strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
    }
    snprintf(name, FILE_NAME_SIZE, "%s-%s.dump", request->name, text);
}

static bool is_wanted(void *ctx) {
    return lvt_event_is_wanted(host, ctx);
}

static bool write_dump(const struct backup *backup, struct leveret_event event,
                       struct leveret_text id, const struct request *request,
                       struct lvt_failure *failure) {
    char name[FILE_NAME_SIZE];
    int64_t bytes;
    struct lvt_dump dump = {
        .pg_dump = backup->pg_dump ? backup->pg_dump : "pg_dump",
        .pg_restore = backup->pg_restore ? backup->pg_restore : "pg_restore",
        .environment = request->database->environment,
        .name = name,
        .compress = request->compress,
        .wanted = is_wanted,
        .ctx = &event,
    };
    name_file(request, id, name);
    if (!lvt_roots_open(&backup->roots, request->path, &dump.folder, failure))
        return false;
    bool done = lvt_dump_write(&dump, &bytes, failure);
    close(dump.folder);
    if (!done)
        return false;
    const struct leveret_field fields[] = {
        leveret_field_text("database", leveret_text_of(request->name)),
        leveret_field_text("path", leveret_text_of(request->path)),
        leveret_field_text("file", leveret_text_of(name)),
        leveret_field_integer("bytes", bytes),
    };
    host->event_log(event, LEVERET_LOG_INFO, "database dumped", fields, 4);
    return true;
}

static int32_t handle(void *self, struct leveret_event event) {
    struct request request = {0};
    struct lvt_failure failure;
    const struct leveret_event_info *info = host->info(event);
    bool done = info && read_request(self, info->payload, &request, &failure) &&
                write_dump(self, event, info->id, &request, &failure);
    free(request.name);
    free(request.path);
    if (done || !info)
        return LEVERET_DONE;
    return host->finish(event, failure.verdict, failure.text, -1);
}

/* ---- the plugin ---- */

static void close_plugin(void *self) {
    struct backup *backup = self;
    lvt_databases_free(&backup->databases);
    lvt_roots_free(&backup->roots);
    lvt_settings_free(settings, SETTING_COUNT, backup);
    free(backup);
}

static bool read_roots(struct backup *backup, struct lvt_failure *failure) {
    int64_t count = host->json_count(backup->root_list, "");
    if (count == 0)
        return lvt_failed(failure, LEVERET_REJECT, "roots names no folder");
    for (int64_t i = 0; i < count; i++) {
        char pointer[32], *path;
        snprintf(pointer, sizeof pointer, "/%lld", (long long)i);
        if (!lvt_json_text(host, backup->root_list, pointer, "a root", NULL, &path, failure))
            return false;
        bool added = lvt_roots_add(&backup->roots, path, failure);
        free(path);
        if (!added)
            return false;
    }
    return true;
}

static bool fill(void *self, struct leveret_text config, struct lvt_failure *failure) {
    struct backup *backup = self;
    return lvt_settings_read(host, config, settings, SETTING_COUNT, backup, failure) &&
           read_roots(backup, failure) &&
           lvt_databases_read(&backup->databases, host, backup->database_table, failure);
}

static int32_t open_plugin(struct leveret_handler *handler, struct leveret_text config,
                           void **ret_self, char *error, size_t error_size) {
    (void)handler;
    return lvt_plugin_open(sizeof(struct backup), fill, close_plugin, config, ret_self, error,
                           error_size);
}

static const char *const events[] = {"backup", NULL};

static const struct leveret_plugin plugin = {
    LEVERET_PLUGIN_HEAD,
    "backup",
    "1.0",
    events,
    "{\"queue\": \"backup_queue\", \"queue_type\": \"classic\", \"max_priority\": 9, "
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
