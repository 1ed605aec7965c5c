/* leveret_config_*: the configuration as a program that embeds a worker makes it. */
#include <stdlib.h>
#include <unistd.h>

#include "base/plain_locale.h"
#include "runtime/lua/lua_config.h"
#include "worker/worker.h"

extern char **environ;

enum leveret_code leveret_config_new(struct leveret_config **ret_config,
                                     struct leveret_error *err) {
    struct leveret_config *config = calloc(1, sizeof *config);
    if (!config)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for a configuration");
    enum leveret_code code = lvt_config_init(&config->values, err);
    if (code != LEVERET_OK) {
        free(config);
        return code;
    }
    /* A program must not run what happens to lie in a folder of its working directory. */
    lvt_strings_free(&config->values.handlers);
    *ret_config = config;
    return LEVERET_OK;
}

void leveret_config_free(struct leveret_config *config) {
    if (!config)
        return;
    lvt_config_free(&config->values);
    free(config);
}

enum leveret_code leveret_config_read(struct leveret_config *config, const char *path,
                                      struct leveret_error *err) {
    struct lvt_plain_locale held;
    lvt_plain_locale_hold(&held);
    enum leveret_code code = lvt_lua_config_read(path, &config->values, err);
    lvt_plain_locale_release(&held);
    return code;
}

enum leveret_code leveret_config_set(struct leveret_config *config, const char *key,
                                     const char *text, struct leveret_error *err) {
    struct lvt_plain_locale held;
    lvt_plain_locale_hold(&held);
    enum leveret_code code =
        lvt_keys_set_text(lvt_config_keys, lvt_config_key_count, &config->values, key, text, err);
    lvt_plain_locale_release(&held);
    return code;
}

enum leveret_code leveret_config_environment(struct leveret_config *config,
                                             struct leveret_error *err) {
    struct lvt_plain_locale held;
    lvt_plain_locale_hold(&held);
    enum leveret_code code = lvt_config_environment(&config->values, environ, err);
    lvt_plain_locale_release(&held);
    return code;
}
