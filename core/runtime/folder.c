#include "runtime/folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/load.h"
#include "runtime/native/native_options.h"

static int is_handler_entry(const struct dirent *entry) {
    return lvt_handler_is_file(entry->d_name);
}

static enum leveret_code list_folder(const char *folder, struct lvt_strings *paths,
                                     struct leveret_error *err) {
    struct dirent **entries;
    int count = scandir(folder, &entries, is_handler_entry, alphasort);
    if (count < 0)
        return leveret_fail(err, LEVERET_CONFIG, "handlers: cannot read %s: %s", folder,
                            strerror(errno));
    paths->items = calloc((size_t)count + 1, sizeof *paths->items);
    bool made = paths->items != NULL;
    for (int i = 0; i < count; i++) {
        if (made && asprintf(&paths->items[paths->count], "%s/%s", folder, entries[i]->d_name) >= 0)
            paths->count++;
        else
            made = false;
        free(entries[i]);
    }
    free(entries);
    return made ? LEVERET_OK : leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
}

static enum leveret_code list_file(const char *path, struct lvt_strings *paths,
                                   struct leveret_error *err) {
    paths->items = calloc(1, sizeof *paths->items);
    char *copy = strdup(path);
    if (!paths->items || !copy) {
        free(copy);
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    }
    paths->items[paths->count++] = copy;
    return LEVERET_OK;
}

enum leveret_code lvt_folder_list(const char *root, struct lvt_strings *ret_paths,
                                  struct leveret_error *err) {
    struct lvt_strings paths = {0};
    struct stat info;
    if (stat(root, &info) != 0)
        return leveret_fail(err, LEVERET_CONFIG, "handlers: cannot open %s: %s", root,
                            strerror(errno));
    enum leveret_code code =
        S_ISDIR(info.st_mode) ? list_folder(root, &paths, err) : list_file(root, &paths, err);
    if (code == LEVERET_OK)
        *ret_paths = paths;
    else
        lvt_strings_free(&paths);
    return code;
}

static enum leveret_code load_file(const char *path, const struct lvt_config *config,
                                   const struct lvt_log *log, struct lvt_routes *routes,
                                   struct leveret_error *err) {
    struct lvt_handler *handler;
    struct leveret_error why;
    enum leveret_code code = lvt_handler_load(path, config, log, &handler, err);
    if (code != LEVERET_OK)
        return code;
    code = lvt_routes_add(routes, handler, &why);
    if (code != LEVERET_OK) {
        lvt_handler_free(handler);
        return leveret_fail(err, code, "%s: %s", path, why.text);
    }
    return LEVERET_OK;
}

static enum leveret_code load_root(const char *root, const struct lvt_config *config,
                                   const struct lvt_log *log, struct lvt_routes *routes,
                                   struct leveret_error *err) {
    struct lvt_strings paths = {0};
    enum leveret_code code = lvt_folder_list(root, &paths, err);
    if (code == LEVERET_OK && paths.count == 0)
        code = leveret_fail(err, LEVERET_CONFIG,
                            "handlers: %s holds no handler: put a file such as ticket.created.lua "
                            "into it, or name another folder",
                            root);
    for (size_t i = 0; i < paths.count && code == LEVERET_OK; i++)
        code = load_file(paths.items[i], config, log, routes, err);
    lvt_strings_free(&paths);
    return code;
}

enum leveret_code lvt_handlers_load(const struct lvt_config *config, const struct lvt_log *log,
                                    struct lvt_routes *routes, struct leveret_error *err) {
    enum leveret_code code = LEVERET_OK;
    if (config->handlers.count == 0)
        return leveret_fail(err, LEVERET_CONFIG,
                            "handlers: no folder is named: set handlers = { \"handlers\" }");
    for (size_t i = 0; i < config->handlers.count && code == LEVERET_OK; i++)
        code = load_root(config->handlers.items[i], config, log, routes, err);
    if (code == LEVERET_OK)
        lvt_native_options_warn(config->plugins, routes, log);
    return code;
}
