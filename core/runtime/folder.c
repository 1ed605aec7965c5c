#include "runtime/folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "runtime/lua/lua_handler.h"
#include "runtime/native/native_handler.h"
#include "runtime/native/native_options.h"

static bool has_suffix(const char *name, const char *suffix) {
    size_t len = strlen(name), suffix_len = strlen(suffix);
    return len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

static bool is_plugin(const char *name) {
    return has_suffix(name, ".so");
}

static bool is_handler(const char *name) {
    return name[0] != '.' && (has_suffix(name, ".lua") || is_plugin(name));
}

static int is_handler_entry(const struct dirent *entry) {
    return is_handler(entry->d_name);
}

static enum leveret_code load_file(const char *path, const struct lvt_config *config,
                                   const struct lvt_log *log, struct lvt_routes *routes,
                                   struct leveret_error *err) {
    struct lvt_handler *handler;
    struct leveret_error why;
    enum leveret_code code = is_plugin(path)
                                 ? lvt_native_handler_load(path, config, log, &handler, err)
                                 : lvt_lua_handler_load(path, config, log, &handler, err);
    if (code != LEVERET_OK)
        return code;
    code = lvt_handler_options_check(&handler->options, config, &why);
    if (code == LEVERET_OK)
        code = lvt_routes_add(routes, handler, &why);
    if (code != LEVERET_OK) {
        lvt_handler_free(handler);
        return leveret_fail(err, code, "%s: %s", path, why.text);
    }
    return LEVERET_OK;
}

static enum leveret_code load_entry(const char *folder, const char *name,
                                    const struct lvt_config *config, const struct lvt_log *log,
                                    struct lvt_routes *routes, struct leveret_error *err) {
    char *path;
    if (asprintf(&path, "%s/%s", folder, name) < 0)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    enum leveret_code code = load_file(path, config, log, routes, err);
    free(path);
    return code;
}

static enum leveret_code load_folder(const char *folder, const struct lvt_config *config,
                                     const struct lvt_log *log, struct lvt_routes *routes,
                                     struct leveret_error *err) {
    struct dirent **entries;
    enum leveret_code code = LEVERET_OK;
    int count = scandir(folder, &entries, is_handler_entry, alphasort);
    if (count < 0)
        return leveret_fail(err, LEVERET_CONFIG, "handlers: cannot read %s: %s", folder,
                            strerror(errno));
    if (count == 0)
        code = leveret_fail(err, LEVERET_CONFIG,
                            "handlers: %s holds no handler: put a file such as ticket.created.lua "
                            "into it, or name another folder",
                            folder);
    for (int i = 0; i < count; i++) {
        if (code == LEVERET_OK)
            code = load_entry(folder, entries[i]->d_name, config, log, routes, err);
        free(entries[i]);
    }
    free(entries);
    return code;
}

enum leveret_code lvt_handlers_load(const struct lvt_config *config, const struct lvt_log *log,
                                    struct lvt_routes *routes, struct leveret_error *err) {
    if (config->handlers.count == 0)
        return leveret_fail(err, LEVERET_CONFIG,
                            "handlers: no folder is named: set handlers = { \"handlers\" }");
    for (size_t i = 0; i < config->handlers.count; i++) {
        const char *path = config->handlers.items[i];
        struct stat info;
        if (stat(path, &info) != 0)
            return leveret_fail(err, LEVERET_CONFIG, "handlers: cannot open %s: %s", path,
                                strerror(errno));
        enum leveret_code code = S_ISDIR(info.st_mode) ? load_folder(path, config, log, routes, err)
                                                       : load_file(path, config, log, routes, err);
        if (code != LEVERET_OK)
            return code;
    }
    lvt_native_options_warn(config->plugins, routes, log);
    return LEVERET_OK;
}
