#include "runtime/native/native_handler.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "blackbox/blackbox.h"
#include "runtime/file.h"
#include "runtime/native/native_library.h"
#include "runtime/native/native_options.h"
#include "runtime/native/native_state.h"

#define SUFFIX ".so"
#define EVENTS_MAX 256
#define CONFIG_MAX_BYTES ((size_t)2 * 1024 * 1024)

void lvt_native_dispose(struct lvt_native *native) {
    if (!native)
        return;
    if (native->opened)
        native->plugin->close(native->self);
    lvt_native_slots_free(native);
    if (native->library)
        dlclose(native->library);
    pthread_mutex_destroy(&native->log_lock);
    pthread_mutex_destroy(&native->lock);
    pthread_cond_destroy(&native->work);
    free(native);
}

static void destroy(void *self) {
    struct lvt_native *native = self;
    if (native && lvt_native_pool_stop(native))
        lvt_native_dispose(native);
}

static const struct lvt_runtime runtime = {lvt_native_start, lvt_native_abort, destroy};

/* For an error's text. */
static const char *place_of(const struct lvt_handler *handler) {
    return handler->path ? handler->path : handler->name;
}

/* ---- options ---- */

static enum leveret_code set_events(const struct leveret_plugin *plugin,
                                    struct lvt_handler_options *options,
                                    struct leveret_error *err) {
    size_t count = 0;
    while (count < EVENTS_MAX && plugin->events[count])
        count++;
    if (count == EVENTS_MAX && plugin->events[count])
        return leveret_fail(err, LEVERET_CONFIG, "events has more than %d, or no NULL at its end",
                            EVENTS_MAX);
    const struct lvt_value value = {
        .kind = LVT_VALUE_LIST, .items = plugin->events, .item_count = count};
    return lvt_keys_set(lvt_handler_keys, lvt_handler_key_count, options, "events", &value, err);
}

/* The configuration's defaults are in; the plugin's and those of plugins.NAME.handler follow. */
static enum leveret_code set_options(struct lvt_handler *handler,
                                     const struct leveret_plugin *plugin,
                                     struct lvt_bytes overrides, struct leveret_error *err) {
    struct lvt_handler_options *options = &handler->options;
    struct leveret_error why;
    enum leveret_code code = set_events(plugin, options, &why);
    if (code == LEVERET_OK && plugin->options)
        code = lvt_native_options_read(lvt_bytes_of(plugin->options), options, &why);
    if (code != LEVERET_OK)
        return leveret_fail(err, code, "%s: in its descriptor: %s", place_of(handler), why.text);
    if (overrides.len > 0)
        code = lvt_native_options_read(overrides, options, &why);
    if (code != LEVERET_OK)
        return leveret_fail(err, code, "plugins.%s.handler: %s", handler->name, why.text);
    if ((plugin->flags & LEVERET_PLUGIN_BLOCKING) && options->concurrency > LVT_NATIVE_THREADS_MAX)
        options->concurrency = LVT_NATIVE_THREADS_MAX;
    return LEVERET_OK;
}

/* ---- loading ---- */

static enum leveret_code open_plugin(struct lvt_native *native, const struct lvt_buffer *config,
                                     struct leveret_error *err) {
    char text[400] = "";
    const struct leveret_text json = {config->data, config->len};
    LVT_LOG(native->log, LVT_DEBUG, "plugin opens", LVT_STRING("handler", native->name));
    lvt_blackbox_opening(native->name);
    int32_t status = native->plugin->open((struct leveret_handler *)native, json, &native->self,
                                          text, sizeof text);
    lvt_blackbox_opening("");
    text[sizeof text - 1] = '\0';
    native->opened = status == 0;
    if (native->opened)
        return LEVERET_OK;
    return leveret_fail(err, LEVERET_CONFIG, "the plugin cannot be opened: %s",
                        text[0] ? text : "it does not say why");
}

static enum leveret_code describe(struct lvt_handler *handler, struct leveret_error *err) {
    struct lvt_native *native = handler->runtime_self;
    const struct leveret_plugin *plugin = native->plugin;
    native->name = handler->name;
    native->blocking = plugin->flags & LEVERET_PLUGIN_BLOCKING;
    native->threads_max = handler->options.concurrency;
    memcpy(native->version, handler->version, sizeof native->version);
    if (asprintf(&handler->about, "%s %s%s", plugin->name, plugin->version,
                 native->blocking ? ", on threads" : "") >= 0)
        return LEVERET_OK;
    handler->about = NULL;
    return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
}

static enum leveret_code configure_and_open(struct lvt_handler *handler,
                                            const struct lvt_config *config,
                                            struct leveret_error *err) {
    struct lvt_native *native = handler->runtime_self;
    struct leveret_error why;
    struct lvt_bytes overrides;
    struct lvt_buffer json;
    lvt_buffer_init(&json, CONFIG_MAX_BYTES);
    enum leveret_code code =
        lvt_native_options_split(config->plugins, handler->name, &overrides, &json, err);
    if (code == LEVERET_OK)
        code = set_options(handler, native->plugin, overrides, err);
    if (code == LEVERET_OK)
        code = describe(handler, err);
    if (code == LEVERET_OK && (code = open_plugin(native, &json, &why)) != LEVERET_OK)
        code = leveret_fail(err, code, "%s: %s", place_of(handler), why.text);
    lvt_buffer_free(&json);
    return code;
}

static enum leveret_code load_library(struct lvt_handler *handler, struct leveret_error *err) {
    struct lvt_native *native = handler->runtime_self;
    struct lvt_native_copy copy;
    struct leveret_error why;
    enum leveret_code code = lvt_native_copy_make(handler->path, &copy, &why);
    if (code == LEVERET_OK) {
        code = lvt_native_copy_check(&copy, &why);
        if (code == LEVERET_OK)
            code = lvt_native_probe(&copy, &why);
        if (code == LEVERET_OK)
            code = lvt_native_library_open(&copy, &native->library, &native->plugin, &why);
        for (int i = 0; i < 6; i++)
            snprintf(handler->version + (ptrdiff_t)2 * i, 3, "%02x", copy.hash[i]);
        lvt_native_copy_close(&copy);
    }
    return code == LEVERET_OK ? code : leveret_fail(err, code, "%s: %s", handler->path, why.text);
}

/* Its name and path are its own, the path may be NULL. NULL when out of memory. */
static struct lvt_handler *new_handler(char *name, char *path, const struct lvt_log *log) {
    struct lvt_handler *handler = calloc(1, sizeof *handler);
    struct lvt_native *native = calloc(1, sizeof *native);
    if (!name || !handler || !native) {
        free(name);
        free(path);
        free(handler);
        free(native);
        return NULL;
    }
    native->log = log;
    native->letter.deliver = lvt_native_deliver;
    pthread_mutex_init(&native->log_lock, NULL);
    pthread_mutex_init(&native->lock, NULL);
    pthread_cond_init(&native->work, NULL);
    handler->runtime = &runtime;
    handler->runtime_self = native;
    handler->name = name;
    handler->path = path;
    return handler;
}

/* Once its descriptor is known. Frees the handler when it fails. */
static enum leveret_code finish_handler(struct lvt_handler *handler,
                                        const struct lvt_config *config,
                                        struct lvt_handler **ret_handler,
                                        struct leveret_error *err) {
    enum leveret_code code = lvt_handler_options_init(&handler->options, config, err);
    if (code == LEVERET_OK)
        code = configure_and_open(handler, config, err);
    if (code == LEVERET_OK)
        *ret_handler = handler;
    else
        lvt_handler_free(handler);
    return code;
}

enum leveret_code lvt_native_handler_load(const char *path, const struct lvt_config *config,
                                          const struct lvt_log *log,
                                          struct lvt_handler **ret_handler,
                                          struct leveret_error *err) {
    char *path_copy = strdup(path);
    struct lvt_handler *handler =
        path_copy ? new_handler(lvt_file_handler_name(path, SUFFIX), path_copy, log) : NULL;
    if (!handler)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the handler %s", path);
    enum leveret_code code = load_library(handler, err);
    if (code == LEVERET_OK)
        return finish_handler(handler, config, ret_handler, err);
    lvt_handler_free(handler);
    return code;
}

/* There is no file whose content could tell: the program's author does. */
static void take_version(struct lvt_handler *handler, const struct leveret_plugin *plugin) {
    snprintf(handler->version, sizeof handler->version, "%s", plugin->version);
}

enum leveret_code lvt_native_handler_make(const struct leveret_plugin *plugin,
                                          const struct lvt_config *config,
                                          const struct lvt_log *log,
                                          struct lvt_handler **ret_handler,
                                          struct leveret_error *err) {
    struct leveret_error why;
    enum leveret_code code = lvt_native_descriptor_check(plugin, &why);
    if (code != LEVERET_OK)
        return leveret_fail(err, code, "the handler that was added: %s", why.text);
    struct lvt_handler *handler = new_handler(strdup(plugin->name), NULL, log);
    if (!handler)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the handler %s",
                            plugin->name);
    struct lvt_native *native = handler->runtime_self;
    native->plugin = plugin;
    take_version(handler, plugin);
    return finish_handler(handler, config, ret_handler, err);
}
