#include "config.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define URL_BYTES 2048
#define TYPE_BYTES 256
#define SECRET_BYTES_MIN 16
#define SECRET_BYTES_MAX 1024
#define TIMEOUT_MS 10000
#define TIMEOUT_MS_MAX 3600000

struct reader {
    struct leveret_text json;
    struct webhook_config *config;
    char *error;
    size_t error_size;
};

__attribute__((format(printf, 2, 3))) static bool fail(const struct reader *reader,
                                                       const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reader->error, reader->error_size, format, arguments);
    va_end(arguments);
    return false;
}

static bool is_set(const struct reader *reader, const char *pointer) {
    return host->json_at(reader->json, pointer, NULL) != LEVERET_JSON_MISSING;
}

/* ---- where to ---- */

/* What is wrong with an URL is not said with the URL: many hold a secret. */
static bool read_url(const struct reader *reader, struct leveret_text value, const char *key,
                     char **ret_url) {
    char url[URL_BYTES];
    int64_t len = host->json_string(value, "", url, sizeof url);
    if (len < 0 || len >= URL_BYTES || strlen(url) != (size_t)len ||
        (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0))
        return fail(reader, "%s must be an address that begins with https:// or http://", key);
    *ret_url = strdup(url);
    return *ret_url || fail(reader, "out of memory");
}

static bool read_target(const struct reader *reader, struct leveret_text urls, size_t index) {
    struct webhook_config *config = reader->config;
    struct leveret_text value;
    char type[TYPE_BYTES], key[TYPE_BYTES + 8];
    int64_t len = host->json_member(urls, "", index, type, sizeof type, &value);
    if (len <= 0 || len >= TYPE_BYTES)
        return fail(reader, "urls: a key of it is no type of events");
    snprintf(key, sizeof key, "urls.%s", type);
    struct target *target = &config->targets[config->target_count];
    target->type = strdup(type);
    if (!target->type)
        return fail(reader, "out of memory");
    config->target_count++;
    return read_url(reader, value, key, &target->url);
}

static bool read_urls(const struct reader *reader) {
    struct webhook_config *config = reader->config;
    struct leveret_text value;
    if (host->json_at(reader->json, "/url", &value) != LEVERET_JSON_MISSING &&
        !read_url(reader, value, "url", &config->url))
        return false;
    if (host->json_at(reader->json, "/urls", &value) != LEVERET_JSON_MISSING) {
        int64_t count = host->json_count(value, "");
        if (count < 0)
            return fail(reader, "urls must be a table, with an address for each type");
        config->targets = calloc((size_t)count + 1, sizeof *config->targets);
        if (!config->targets)
            return fail(reader, "out of memory");
        for (int64_t i = 0; i < count; i++)
            if (!read_target(reader, value, (size_t)i))
                return false;
    }
    return config->url || config->target_count > 0 ||
           fail(reader, "it needs an address: set url, or urls for some types");
}

/* ---- the secret ---- */

/* Without the line break at its end, which editors add. -1: it cannot be read. */
static int64_t read_file(const char *path, char *buffer, size_t size) {
    FILE *file = fopen(path, "re");
    if (!file)
        return -1;
    setvbuf(file, NULL, _IONBF, 0); /* no copy of the secret is left behind */
    size_t len = fread(buffer, 1, size, file);
    bool failed = ferror(file);
    fclose(file);
    while (len > 0 && (buffer[len - 1] == '\n' || buffer[len - 1] == '\r'))
        len--;
    return failed ? -1 : (int64_t)len;
}

static bool read_secret(const struct reader *reader) {
    char secret[SECRET_BYTES_MAX + 2], path[PATH_MAX];
    const char *key = is_set(reader, "/secret") ? "secret" : "secret_file";
    int64_t len;
    if (is_set(reader, "/secret") == is_set(reader, "/secret_file"))
        return fail(reader, "it needs a secret to sign with: set either secret or secret_file");
    if (is_set(reader, "/secret")) {
        len = host->json_string(reader->json, "/secret", secret, sizeof secret);
    } else {
        len = host->json_string(reader->json, "/secret_file", path, sizeof path);
        if (len <= 0 || len >= PATH_MAX || strlen(path) != (size_t)len)
            return fail(reader, "secret_file must name a file");
        len = read_file(path, secret, sizeof secret);
        if (len < 0)
            return fail(reader, "secret_file: %s: %m", path);
    }
    bool fits = len >= SECRET_BYTES_MIN && len <= SECRET_BYTES_MAX;
    if (fits)
        hmac_sha256_set_key(&reader->config->key, (size_t)len, (const uint8_t *)secret);
    explicit_bzero(secret, sizeof secret);
    return fits || fail(reader, "%s must hold a secret of %d to %d bytes", key, SECRET_BYTES_MIN,
                        SECRET_BYTES_MAX);
}

/* ---- all of it ---- */

static bool check_keys(const struct reader *reader) {
    static const char *const keys[] = {"url", "urls", "secret", "secret_file", "timeout_ms"};
    char name[64];
    for (size_t i = 0; host->json_member(reader->json, "", i, name, sizeof name, NULL) >= 0; i++) {
        bool known = false;
        for (size_t j = 0; j < sizeof keys / sizeof *keys; j++)
            known |= strcmp(name, keys[j]) == 0;
        if (!known)
            return fail(reader,
                        "unknown key \"%s\"; it has url, urls, secret, secret_file and timeout_ms",
                        name);
    }
    return true;
}

static bool read_timeout(const struct reader *reader) {
    int64_t timeout_ms = TIMEOUT_MS;
    if (is_set(reader, "/timeout_ms") &&
        (!host->json_integer(reader->json, "/timeout_ms", &timeout_ms) || timeout_ms < 1 ||
         timeout_ms > TIMEOUT_MS_MAX))
        return fail(reader, "timeout_ms must be a whole number from 1 to %d", TIMEOUT_MS_MAX);
    reader->config->timeout_ms = (uint64_t)timeout_ms;
    return true;
}

struct webhook_config *webhook_config_read(struct leveret_text json, char *error,
                                           size_t error_size) {
    struct webhook_config *config = calloc(1, sizeof *config);
    const struct reader reader = {json, config, error, error_size};
    if (!config) {
        fail(&reader, "out of memory");
        return NULL;
    }
    if (check_keys(&reader) && read_urls(&reader) && read_secret(&reader) && read_timeout(&reader))
        return config;
    webhook_config_free(config);
    return NULL;
}

void webhook_config_free(struct webhook_config *config) {
    if (!config)
        return;
    for (size_t i = 0; i < config->target_count; i++) {
        free(config->targets[i].type);
        free(config->targets[i].url);
    }
    free(config->targets);
    free(config->url);
    explicit_bzero(&config->key, sizeof config->key);
    free(config);
}

const char *webhook_config_url(const struct webhook_config *config, struct leveret_text type) {
    for (size_t i = 0; i < config->target_count; i++) {
        const struct target *target = &config->targets[i];
        if (strlen(target->type) == type.len && memcmp(target->type, type.data, type.len) == 0)
            return target->url;
    }
    return config->url;
}
