#include "runtime/reload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "runtime/file.h"
#include "runtime/folder.h"
#include "runtime/load.h"

/* A wrong file that was written within this time is looked at once more before it is told of. */
#define FRESH_MS 100

/* What is remembered of a file that is not as its handler is. */
struct file {
    struct file *next;
    char failed_version[LVT_VERSION_SIZE]; /* the content that was found wrong; "": none */
    char failed_text[sizeof((struct leveret_error *)0)->text];
    uint64_t missing_since_ms; /* 0: it is there */
    bool met;                  /* in this comparison */
    char path[];
};

/* A folder, or a single file, of the configuration. */
struct root {
    bool away; /* has been logged */
    bool listed;
    struct lvt_strings paths;
};

/* A change on its way into the engine. */
struct wish {
    struct lvt_handler_change change;
    struct file *file;
    bool made;
};

struct lvt_reload {
    struct lvt_reload_options options;
    struct root *roots; /* as config.handlers has them */
    struct file *files;
    struct wish *wishes; /* of this comparison */
    size_t wish_count, wish_size;
};

struct lvt_reload *lvt_reload_new(const struct lvt_reload_options *options) {
    struct lvt_reload *reload = calloc(1, sizeof *reload);
    if (!reload)
        return NULL;
    reload->options = *options;
    reload->roots = calloc(options->config->handlers.count + 1, sizeof *reload->roots);
    if (!reload->roots) {
        free(reload);
        return NULL;
    }
    return reload;
}

void lvt_reload_free(struct lvt_reload *reload) {
    if (!reload)
        return;
    while (reload->files) {
        struct file *next = reload->files->next;
        free(reload->files);
        reload->files = next;
    }
    free(reload->roots);
    free(reload->wishes);
    free(reload);
}

/* ---- files ---- */

/* NULL when out of memory. */
static struct file *file_of(struct lvt_reload *reload, const char *path) {
    struct file *file = reload->files;
    while (file && strcmp(file->path, path) != 0)
        file = file->next;
    if (!file) {
        file = calloc(1, sizeof *file + strlen(path) + 1);
        if (!file)
            return NULL;
        memcpy(file->path, path, strlen(path) + 1);
        file->next = reload->files;
        reload->files = file;
    }
    file->met = true;
    return file;
}

/* Forgets those that are as their handlers are, or gone without one. */
static void forget_files(struct lvt_reload *reload) {
    struct file **at = &reload->files;
    while (*at) {
        struct file *file = *at;
        if (file->met) {
            file->met = false;
            at = &file->next;
        } else {
            *at = file->next;
            free(file);
        }
    }
}

/* ---- what came of it ---- */

static void count(struct lvt_reload *reload, const char *path, enum lvt_reload_result result) {
    char *name = lvt_handler_name_of(path);
    if (name)
        lvt_stats_count_reload(reload->options.stats, name, result);
    free(name);
}

/* Says so once for each content and reason. */
static void failed(struct lvt_reload *reload, struct file *file, const char *version,
                   const struct lvt_handler *serving, const struct leveret_error *err) {
    if (strcmp(file->failed_version, version) == 0 && strcmp(file->failed_text, err->text) == 0)
        return;
    snprintf(file->failed_version, sizeof file->failed_version, "%s", version);
    snprintf(file->failed_text, sizeof file->failed_text, "%s", err->text);
    count(reload, file->path, LVT_RELOAD_FAILED);
    if (serving)
        LVT_LOG(reload->options.log, LVT_ERROR,
                "a handler's file cannot be used: the version before it goes on serving",
                LVT_STRING("handler", serving->name), LVT_STRING("version", serving->version),
                LVT_STRING("file", file->path), LVT_STRING("refused", version),
                LVT_STRING("reason", err->text));
    else
        LVT_LOG(reload->options.log, LVT_ERROR, "a handler's file cannot be used",
                LVT_STRING("file", file->path), LVT_STRING("refused", version),
                LVT_STRING("reason", err->text));
}

static void made(struct lvt_reload *reload, struct wish *wish) {
    const struct lvt_handler *old = wish->change.old, *next = wish->change.next;
    const struct lvt_log *log = reload->options.log;
    wish->made = true;
    wish->file->failed_version[0] = wish->file->failed_text[0] = '\0';
    wish->file->met = false;
    if (!next) {
        count(reload, wish->file->path, LVT_RELOAD_REMOVED);
        LVT_LOG(log, LVT_INFO, "handler removed", LVT_STRING("handler", old->name),
                LVT_STRING("version", old->version), LVT_STRING("queue", old->queue->name),
                LVT_STRING("file", wish->file->path));
        return;
    }
    count(reload, wish->file->path, old ? LVT_RELOAD_OK : LVT_RELOAD_ADDED);
    LVT_LOG(log, LVT_INFO, old ? "handler reloaded" : "handler added",
            LVT_STRING("handler", next->name), LVT_STRING("version", next->version),
            LVT_STRING("before", old ? old->version : ""), LVT_STRING("queue", next->queue->name),
            LVT_STRING("file", wish->file->path));
}

/* ---- what is to change ---- */

static bool add_wish(struct lvt_reload *reload, struct file *file, struct lvt_handler *old,
                     struct lvt_handler *next) {
    if (reload->wish_count == reload->wish_size) {
        size_t size = reload->wish_size ? 2 * reload->wish_size : 16;
        struct wish *wishes = realloc(reload->wishes, size * sizeof *wishes);
        if (!wishes)
            return false;
        reload->wishes = wishes;
        reload->wish_size = size;
    }
    reload->wishes[reload->wish_count++] = (struct wish){.change = {old, next}, .file = file};
    return true;
}

static struct lvt_handler *handler_of(const struct lvt_reload *reload, const char *path) {
    const struct lvt_routes *routes = reload->options.routes;
    for (size_t i = 0; i < routes->handler_count; i++)
        if (routes->handlers[i]->path && strcmp(routes->handlers[i]->path, path) == 0)
            return routes->handlers[i];
    return NULL;
}

static bool is_of(const char *path, const char *root) {
    size_t len = strlen(root);
    return strncmp(path, root, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static bool is_listed(const struct lvt_reload *reload, const char *path) {
    for (size_t i = 0; i < reload->options.config->handlers.count; i++) {
        const struct root *root = &reload->roots[i];
        const char *name = reload->options.config->handlers.items[i];
        /* Of a folder that cannot be read nobody knows what it holds. */
        if (!root->listed && is_of(path, name) && strcmp(path, name) != 0)
            return true;
        for (size_t j = 0; j < root->paths.count; j++)
            if (strcmp(root->paths.items[j], path) == 0)
                return true;
    }
    return false;
}

/* A handler whose file is gone, and whose content is in a new file: it has been renamed. */
static struct lvt_handler *renamed_from(const struct lvt_reload *reload, const char *version) {
    const struct lvt_routes *routes = reload->options.routes;
    for (size_t i = 0; i < routes->handler_count; i++) {
        struct lvt_handler *handler = routes->handlers[i];
        if (handler->path && strcmp(handler->version, version) == 0 &&
            !is_listed(reload, handler->path))
            return handler;
    }
    return NULL;
}

/* Takes `next` over when it succeeds. */
static bool wish_for(struct lvt_reload *reload, struct file *file, struct lvt_handler *serving,
                     struct lvt_handler *next) {
    struct lvt_handler *old = serving ? serving : renamed_from(reload, next->version);
    for (size_t i = 0; i < reload->wish_count && old; i++) {
        struct wish *wish = &reload->wishes[i];
        if (wish->change.old != old)
            continue;
        if (wish->change.next)
            old = NULL; /* a copy of it: one more handler */
        else
            *wish = (struct wish){.change = {old, next}, .file = file};
        if (old)
            return true;
    }
    return add_wish(reload, file, old, next);
}

/* Whether the file was written a moment ago: under constant saves it may be seen half-written. */
static bool is_fresh(const char *path) {
    struct stat info;
    struct timespec now;
    if (stat(path, &info) != 0 || clock_gettime(CLOCK_REALTIME, &now) != 0)
        return false;
    int64_t age_ms = ((int64_t)now.tv_sec - info.st_mtim.tv_sec) * 1000 +
                     (now.tv_nsec - info.st_mtim.tv_nsec) / 1000000;
    return age_ms >= 0 && age_ms < FRESH_MS;
}

/* A file that is there. One that goes between the list and the look is seen to the next time.
 * False when it has to be looked at again soon. */
static bool compare(struct lvt_reload *reload, const char *path) {
    char version[LVT_VERSION_SIZE] = "";
    struct lvt_handler *serving = handler_of(reload, path), *next = NULL;
    struct leveret_error err;
    enum leveret_code code = lvt_file_read_version(path, version, &err);
    if (code == LEVERET_UNAVAILABLE ||
        (code == LEVERET_OK && serving && strcmp(serving->version, version) == 0))
        return true;
    struct file *file = file_of(reload, path);
    if (!file)
        return false;
    file->missing_since_ms = 0;
    if (code == LEVERET_OK)
        code = lvt_handler_load(path, reload->options.config, reload->options.log, &next, &err);
    if (code != LEVERET_OK) {
        bool settled = !is_fresh(path);
        if (settled)
            failed(reload, file, version, serving, &err);
        return settled;
    }
    bool wished = wish_for(reload, file, serving, next);
    if (!wished)
        lvt_handler_free(next);
    return wished;
}

/* A handler whose file is not there. Returns when to look again, or 0. */
static uint64_t consider_removal(struct lvt_reload *reload, struct lvt_handler *handler,
                                 uint64_t now_ms, bool at_once) {
    struct file *file = file_of(reload, handler->path);
    if (!file)
        return now_ms + LVT_REMOVAL_MS;
    if (file->missing_since_ms == 0)
        file->missing_since_ms = now_ms;
    uint64_t due_ms = file->missing_since_ms + LVT_REMOVAL_MS;
    if (!at_once && now_ms < due_ms)
        return due_ms;
    return add_wish(reload, file, handler, NULL) ? 0 : now_ms + LVT_REMOVAL_MS;
}

static uint64_t find_removed(struct lvt_reload *reload, uint64_t now_ms, bool at_once) {
    const struct lvt_routes *routes = reload->options.routes;
    uint64_t again_ms = 0;
    for (size_t i = 0; i < routes->handler_count; i++) {
        struct lvt_handler *handler = routes->handlers[i];
        if (!handler->path || is_listed(reload, handler->path))
            continue;
        uint64_t due_ms = consider_removal(reload, handler, now_ms, at_once);
        if (due_ms > 0 && (again_ms == 0 || due_ms < again_ms))
            again_ms = due_ms;
    }
    return again_ms;
}

/* ---- into the engine ---- */

static bool make_all(struct lvt_reload *reload) {
    struct lvt_handler_change *changes = calloc(reload->wish_count, sizeof *changes);
    struct leveret_error err;
    if (!changes)
        return false;
    for (size_t i = 0; i < reload->wish_count; i++)
        changes[i] = reload->wishes[i].change;
    bool all = lvt_engine_change_handlers(reload->options.engine, changes, reload->wish_count,
                                          &err) == LEVERET_OK;
    for (size_t i = 0; i < reload->wish_count && all; i++)
        made(reload, &reload->wishes[i]);
    free(changes);
    return all;
}

/* False when it was not made. */
static bool make_one(struct lvt_reload *reload, struct wish *wish, struct leveret_error *err) {
    if (lvt_engine_change_handlers(reload->options.engine, &wish->change, 1, err) != LEVERET_OK)
        return false;
    made(reload, wish);
    return true;
}

/* Files that agree with one another only together are changed together; where one of them is wrong,
 * the others are changed without it. */
static void make_wishes(struct lvt_reload *reload) {
    struct leveret_error err;
    bool progress = reload->wish_count > 0 && !make_all(reload);
    while (progress) {
        progress = false;
        for (size_t i = 0; i < reload->wish_count; i++)
            progress |= !reload->wishes[i].made && make_one(reload, &reload->wishes[i], &err);
    }
    for (size_t i = 0; i < reload->wish_count; i++) {
        struct wish *wish = &reload->wishes[i];
        if (wish->made || make_one(reload, wish, &err))
            continue;
        if (!wish->change.next)
            continue; /* for want of memory: it is still missing the next time */
        failed(reload, wish->file, wish->change.next->version, wish->change.old, &err);
        lvt_handler_free(wish->change.next);
    }
    reload->wish_count = 0;
}

static void list(struct lvt_reload *reload, size_t number) {
    struct root *root = &reload->roots[number];
    const char *path = reload->options.config->handlers.items[number];
    struct leveret_error err;
    root->listed = lvt_folder_list(path, &root->paths, &err) == LEVERET_OK;
    if (root->listed == !root->away)
        return;
    root->away = !root->listed;
    if (root->away)
        LVT_LOG(reload->options.log, LVT_WARN,
                "a folder of handlers cannot be read: its handlers stay as they are until it is "
                "back",
                LVT_STRING("folder", path), LVT_STRING("reason", err.text));
    else
        LVT_LOG(reload->options.log, LVT_INFO, "a folder of handlers is back",
                LVT_STRING("folder", path));
}

uint64_t lvt_reload_scan(struct lvt_reload *reload, uint64_t now_ms, bool at_once) {
    size_t root_count = reload->options.config->handlers.count;
    for (size_t i = 0; i < root_count; i++)
        list(reload, i);
    uint64_t again_ms = find_removed(reload, now_ms, at_once);
    for (size_t i = 0; i < root_count; i++)
        for (size_t j = 0; j < reload->roots[i].paths.count; j++)
            if (!compare(reload, reload->roots[i].paths.items[j]))
                again_ms = now_ms + FRESH_MS;
    make_wishes(reload);
    forget_files(reload);
    for (size_t i = 0; i < root_count; i++)
        lvt_strings_free(&reload->roots[i].paths);
    return again_ms;
}
