#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/private.h"

#define DEFAULT_PORT "6379"
#define DATABASE_MAX 1000000

/* No text here may show the URL: it holds a password. */
#define FORM "; expected redis://[user:password@]host:port/database or unix:///path"

static int hex(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 32) >= 'a' && (c | 32) <= 'f')
        return (c | 32) - 'a' + 10;
    return -1;
}

/* A copy without %-escapes. */
static enum leveret_code unescape(struct lvt_bytes text, char **ret_text,
                                  struct leveret_error *err) {
    char *out = malloc(text.len + 1);
    if (!out)
        return leveret_fail(err, LEVERET_NO_MEMORY, "redis.url: out of memory");
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (c == '%') {
            int high = i + 2 < text.len ? hex(text.data[i + 1]) : -1;
            int low = i + 2 < text.len ? hex(text.data[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0) {
                free(out);
                return leveret_fail(err, LEVERET_CONFIG,
                                    "redis.url: %% must be followed by two hexadecimal digits; "
                                    "write %%25 for a percent sign");
            }
            c = (char)(high * 16 + low);
            i += 2;
        }
        out[n++] = c;
    }
    out[n] = 0;
    *ret_text = out;
    return LEVERET_OK;
}

static enum leveret_code parse_user(struct lvt_bytes info, struct lvt_redis_url *url,
                                    struct leveret_error *err) {
    const char *colon = memchr(info.data, ':', info.len);
    size_t user_len = colon ? (size_t)(colon - info.data) : info.len;
    if (!colon)
        return leveret_fail(err, LEVERET_CONFIG,
                            "redis.url: a user without a password; write :password@host for a "
                            "password alone");
    if (user_len > 0) {
        enum leveret_code code = unescape(lvt_bytes(info.data, user_len), &url->user, err);
        if (code)
            return code;
    }
    return unescape(lvt_bytes(colon + 1, info.len - user_len - 1), &url->password, err);
}

static enum leveret_code parse_number(struct lvt_bytes text, unsigned long max, const char *what,
                                      unsigned long *ret_number, struct leveret_error *err) {
    unsigned long number = 0;
    bool fits = text.len > 0 && text.len <= 9;
    for (size_t i = 0; fits && i < text.len; i++) {
        fits = text.data[i] >= '0' && text.data[i] <= '9';
        number = number * 10 + (unsigned long)(text.data[i] - '0');
    }
    if (!fits || number > max)
        return leveret_fail(err, LEVERET_CONFIG, "redis.url: the %s is not a number up to %lu" FORM,
                            what, max);
    *ret_number = number;
    return LEVERET_OK;
}

static enum leveret_code parse_host(struct lvt_bytes text, struct lvt_redis_url *url,
                                    struct leveret_error *err) {
    struct lvt_bytes host = text, port = LVT_LITERAL(DEFAULT_PORT);
    const char *colon;
    if (text.len > 0 && text.data[0] == '[') {
        const char *end = memchr(text.data, ']', text.len);
        if (!end)
            return leveret_fail(err, LEVERET_CONFIG, "redis.url: [ without ]" FORM);
        host = lvt_bytes(text.data + 1, (size_t)(end - text.data) - 1);
        size_t used = host.len + 2;
        if (used < text.len && text.data[used] != ':')
            return leveret_fail(err, LEVERET_CONFIG, "redis.url: no : after ]" FORM);
        colon = used < text.len ? text.data + used : NULL;
    } else {
        colon = memchr(text.data, ':', text.len);
        if (colon)
            host.len = (size_t)(colon - text.data);
    }
    if (colon)
        port = lvt_bytes(colon + 1, text.len - (size_t)(colon - text.data) - 1);
    unsigned long number = 0;
    enum leveret_code code = parse_number(port, 65535, "port", &number, err);
    if (code)
        return code;
    snprintf(url->port, sizeof url->port, "%u", (unsigned)number & 0xffff);
    return unescape(host.len > 0 ? host : LVT_LITERAL("localhost"), &url->host, err);
}

static enum leveret_code parse_database(struct lvt_bytes text, struct lvt_redis_url *url,
                                        struct leveret_error *err) {
    unsigned long number = 0;
    enum leveret_code code = LEVERET_OK;
    if (text.len > 0)
        code = parse_number(text, DATABASE_MAX, "database", &number, err);
    url->database = (unsigned)number;
    return code;
}

static enum leveret_code parse(const char *text, struct lvt_redis_url *url,
                               struct leveret_error *err) {
    if (strncmp(text, "rediss://", 9) == 0)
        return leveret_fail(err, LEVERET_CONFIG,
                            "redis.url: rediss:// (TLS) is not supported; use redis:// to a local "
                            "TLS tunnel such as stunnel");
    bool local = strncmp(text, "unix://", 7) == 0;
    if (!local && strncmp(text, "redis://", 8) != 0)
        return leveret_fail(err, LEVERET_CONFIG, "redis.url: unknown scheme" FORM);
    text += local ? 7 : 8;

    const char *query = strchr(text, '?');
    size_t len = query ? (size_t)(query - text) : strlen(text);
    const char *slash = memchr(text, '/', len);
    size_t host_len = slash ? (size_t)(slash - text) : len;
    const char *at = memrchr(text, '@', host_len);
    enum leveret_code code = LEVERET_OK;
    if (at)
        code = parse_user(lvt_bytes(text, (size_t)(at - text)), url, err);
    if (code)
        return code;
    const char *host = at ? at + 1 : text;
    struct lvt_bytes place = lvt_bytes(host, host_len - (size_t)(host - text));
    struct lvt_bytes path = lvt_bytes(slash, len - host_len);
    if (query && strncmp(query, "?db=", 4) != 0)
        return leveret_fail(err, LEVERET_CONFIG, "redis.url: the only parameter known is ?db=");
    if (query)
        code = parse_database(lvt_bytes_of(query + 4), url, err);
    if (code)
        return code;
    if (local) {
        if (place.len > 0 || path.len < 2)
            return leveret_fail(err, LEVERET_CONFIG,
                                "redis.url: unix:// needs an absolute path" FORM);
        return unescape(path, &url->path, err);
    }
    if (path.len > 1) {
        code = parse_database(lvt_bytes(path.data + 1, path.len - 1), url, err);
        if (code)
            return code;
    }
    return parse_host(place, url, err);
}

enum leveret_code lvt_redis_url_parse(const char *text, struct lvt_redis_url *ret_url,
                                      struct leveret_error *err) {
    struct lvt_redis_url url = {0};
    enum leveret_code code = parse(text, &url, err);
    if (code)
        lvt_redis_url_free(&url);
    else
        *ret_url = url;
    return code;
}

void lvt_redis_url_free(struct lvt_redis_url *url) {
    free(url->host);
    free(url->path);
    free(url->user);
    free(url->password);
    *url = (struct lvt_redis_url){0};
}
