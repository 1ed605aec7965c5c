/* Variables of the environment, which win over the file. */
#include <stdio.h>
#include <string.h>

#include "config/keys.h"

static const struct alias {
    const char *variable, *key;
} aliases[] = {
    {"RABBITMQ_URL", "rabbitmq.url"}, {"DATABASE_URL", "postgres.url"}, {"REDIS_URL", "redis.url"}};
#define ALIAS_COUNT (sizeof aliases / sizeof *aliases)

#define PREFIX "LEVERET_"
#define PREFIX_LEN (sizeof PREFIX - 1)

static const struct lvt_key *find_key(const char *name) {
    return lvt_keys_find(lvt_config_keys, lvt_config_key_count, name);
}

/* "rabbitmq.prefetch" as "RABBITMQ_PREFETCH". */
static void variable_of(const struct lvt_key *key, char *out, size_t size) {
    size_t len = 0;
    for (const char *c = key->name; *c && len + 1 < size; c++) {
        out[len++] = *c == '.' ? '_' : *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
    }
    out[len] = '\0';
}

/* Kubernetes describes a service called "leveret" to its neighbours in variables with our prefix:
 * LEVERET_SERVICE_HOST, LEVERET_PORT_9464_TCP_ADDR and the like. */
static bool is_service_link(const char *rest) {
    size_t len = strlen(rest);
    const char *port = strstr(rest, "PORT");
    return (len >= 12 && strcmp(rest + len - 12, "SERVICE_HOST") == 0) ||
           (port && (port == rest || port[-1] == '_') && (port[4] == '\0' || port[4] == '_'));
}

/* `err` names the key: says which variable it came from, too. */
static enum leveret_code set_variable(struct lvt_config *config, const char *variable,
                                      size_t variable_len, const struct lvt_key *key,
                                      const char *text, struct leveret_error *err) {
    struct leveret_error cause;
    enum leveret_code code = lvt_key_set_text(key, config, text, &cause);
    if (code != LEVERET_OK) {
        return leveret_fail(err, code, "the environment's %.*s: %s", (int)variable_len, variable,
                            cause.text);
    }
    return LEVERET_OK;
}

static enum leveret_code fail_unknown(const char *variable, size_t len, struct leveret_error *err) {
    char path[128], name[128];
    snprintf(path, sizeof path, "%.*s", (int)(len - PREFIX_LEN), variable + PREFIX_LEN);
    for (size_t i = 0; i < ALIAS_COUNT; i++) {
        variable_of(find_key(aliases[i].key), name, sizeof name);
        if (strcmp(path, name) == 0) {
            return leveret_fail(err, LEVERET_CONFIG, "the environment's %.*s: use %s instead",
                                (int)len, variable, aliases[i].variable);
        }
    }
    for (char *c = path; *c; c++) {
        *c = *c == '_' ? '.' : *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
    }
    const struct lvt_key *nearest = lvt_keys_nearest(lvt_config_keys, lvt_config_key_count, path);
    if (!nearest) {
        return leveret_fail(err, LEVERET_CONFIG,
                            "the environment's %.*s: no key has this name; `leveret run "
                            "--help-config` lists them",
                            (int)(len < 80 ? len : 80), variable);
    }
    variable_of(nearest, name, sizeof name);
    return leveret_fail(err, LEVERET_CONFIG,
                        "the environment's %.*s: no key has this name; did you mean " PREFIX "%s?",
                        (int)(len < 80 ? len : 80), variable, name);
}

static bool has_alias(const struct lvt_key *key) {
    for (size_t i = 0; i < ALIAS_COUNT; i++) {
        if (strcmp(key->name, aliases[i].key) == 0) {
            return true;
        }
    }
    return false;
}

static enum leveret_code read_prefixed(struct lvt_config *config, const char *variable, size_t len,
                                       const char *text, struct leveret_error *err) {
    const char *rest = variable + PREFIX_LEN;
    size_t rest_len = len - PREFIX_LEN;
    char name[128];
    for (size_t i = 0; i < lvt_config_key_count; i++) {
        variable_of(&lvt_config_keys[i], name, sizeof name);
        if (strlen(name) == rest_len && memcmp(name, rest, rest_len) == 0 &&
            !has_alias(&lvt_config_keys[i])) {
            return set_variable(config, variable, len, &lvt_config_keys[i], text, err);
        }
    }
    snprintf(name, sizeof name, "%.*s", (int)rest_len, rest);
    return is_service_link(name) ? LEVERET_OK : fail_unknown(variable, len, err);
}

enum leveret_code lvt_config_environment(struct lvt_config *config, char **environ_,
                                         struct leveret_error *err) {
    for (char **at = environ_; *at; at++) {
        const char *equals = strchr(*at, '=');
        if (!equals) {
            continue;
        }
        size_t len = (size_t)(equals - *at);
        enum leveret_code code = LEVERET_OK;
        if (len > PREFIX_LEN && strncmp(*at, PREFIX, PREFIX_LEN) == 0) {
            code = read_prefixed(config, *at, len, equals + 1, err);
        }
        for (size_t i = 0; i < ALIAS_COUNT; i++) {
            /* Empty is as good as unset: that is what a compose file makes of `${X:-}`. */
            if (strlen(aliases[i].variable) == len && strncmp(*at, aliases[i].variable, len) == 0 &&
                equals[1] != '\0') {
                code = set_variable(config, *at, len, find_key(aliases[i].key), equals + 1, err);
            }
        }
        if (code != LEVERET_OK) {
            return code;
        }
    }
    return LEVERET_OK;
}
