#include "runtime/load.h"

#include <string.h>

#include "runtime/file.h"
#include "runtime/lua/lua_handler.h"
#include "runtime/native/native_handler.h"

static const struct {
    const char *suffix;
    enum leveret_code (*load)(const char *path, const struct lvt_config *config,
                              const struct lvt_log *log, struct lvt_handler **ret_handler,
                              struct leveret_error *err);
} kinds[] = {
    {".lua", lvt_lua_handler_load},
    {".so", lvt_native_handler_load},
};
#define KIND_COUNT (sizeof kinds / sizeof kinds[0])

/* KIND_COUNT when it is none. */
static size_t kind_of(const char *name) {
    size_t len = strlen(name), kind = 0;
    for (; kind < KIND_COUNT; kind++) {
        size_t suffix = strlen(kinds[kind].suffix);
        if (len > suffix && strcmp(name + len - suffix, kinds[kind].suffix) == 0)
            break;
    }
    return kind;
}

bool lvt_handler_is_file(const char *name) {
    return name[0] != '.' && kind_of(name) < KIND_COUNT;
}

char *lvt_handler_name_of(const char *path) {
    size_t kind = kind_of(path);
    return lvt_file_handler_name(path, kind < KIND_COUNT ? kinds[kind].suffix : "");
}

enum leveret_code lvt_handler_load(const char *path, const struct lvt_config *config,
                                   const struct lvt_log *log, struct lvt_handler **ret_handler,
                                   struct leveret_error *err) {
    struct lvt_handler *handler;
    struct leveret_error why;
    size_t kind = kind_of(path);
    /* A file that the configuration names itself may be called anything. */
    enum leveret_code code =
        kinds[kind < KIND_COUNT ? kind : 0].load(path, config, log, &handler, err);
    if (code != LEVERET_OK)
        return code;
    code = lvt_handler_options_check(&handler->options, config, &why);
    if (code != LEVERET_OK) {
        lvt_handler_free(handler);
        return leveret_fail(err, code, "%s: %s", path, why.text);
    }
    *ret_handler = handler;
    return LEVERET_OK;
}
