/* Shows too little rather than too much: what might be a secret is hidden, in URLs that nobody
 * would accept, too. */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "config/config.h"

#define HIDDEN "***"

struct output {
    char *data;
    size_t len, size;
};

static void put(struct output *out, const char *text, size_t len) {
    for (size_t i = 0; i < len && out->len + 1 < out->size; i++) {
        unsigned char c = (unsigned char)text[i];
        out->data[out->len++] = c < 0x20 || c == 0x7F ? '?' : (char)c;
    }
}

static void hide(struct output *out) {
    put(out, HIDDEN, strlen(HIDDEN));
}

/* password, passwd, sslpassword, client_secret, token... A name with percent escapes is decoded by
 * those who read it, and might be any of these. */
static bool is_secret(const char *name, size_t len) {
    static const char *const words[] = {"pass", "pwd", "secret", "token", "key", "%"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t word_len = strlen(words[i]);
        for (size_t at = 0; at + word_len <= len; at++) {
            if (strncasecmp(name + at, words[i], word_len) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* From the '?' on. */
static void put_parameters(struct output *out, const char *at) {
    while (*at) {
        put(out, at, 1); /* '?', '&' or ';' */
        at++;
        size_t len = strcspn(at, "&;");
        const char *equals = memchr(at, '=', len);
        if (equals && is_secret(at, (size_t)(equals - at))) {
            put(out, at, (size_t)(equals - at) + 1);
            hide(out);
        } else {
            put(out, at, len);
        }
        at += len;
    }
}

/* user:password@host:port/path?parameters. The last '@' ends the password, wherever it stands: one
 * that was not escaped may hold '/', '?' and '@'. */
static void put_location(struct output *out, const char *at, bool lone_is_password) {
    const char *host = strrchr(at, '@');
    if (host) {
        const char *colon = memchr(at, ':', (size_t)(host - at));
        if (colon) {
            put(out, at, (size_t)(colon - at) + 1);
            hide(out);
        } else if (lone_is_password) {
            hide(out);
        } else {
            put(out, at, (size_t)(host - at));
        }
        at = host;
    }
    size_t len = strcspn(at, "?");
    put(out, at, len);
    put_parameters(out, at + len);
}

/* The end of libpq's value: quoted, or up to a space; a backslash takes what follows it along. */
static const char *value_end(const char *at) {
    bool quoted = *at == '\'';
    at += quoted;
    while (*at && (quoted ? *at != '\'' : !isspace((unsigned char)*at))) {
        at += at[0] == '\\' && at[1] ? 2 : 1;
    }
    return quoted && *at ? at + 1 : at;
}

/* host=x password='y z' */
static void put_keywords(struct output *out, const char *at) {
    while (*at) {
        size_t len = strcspn(at, "= \t\r\n");
        const char *name = at, *value = name + len;
        value += strspn(value, " \t\r\n");
        if (*value != '=') {
            /* Not a keyword: nothing tells what it is. */
            if (len > 0) {
                hide(out);
            }
            put(out, name + len, (size_t)(value - name) - len);
            at = value;
            continue;
        }
        value++;
        value += strspn(value, " \t\r\n");
        const char *end = value_end(value);
        put(out, name, (size_t)(value - name));
        /* dbname may be a whole URL. */
        const char *nested = strstr(value, "://");
        if (is_secret(name, len) || (nested && nested < end)) {
            hide(out);
        } else {
            put(out, value, (size_t)(end - value));
        }
        at = end + strspn(end, " \t\r\n");
        put(out, end, (size_t)(at - end));
    }
}

void lvt_url_redact(const char *url, char *out, size_t size) {
    struct output output = {out, 0, size};
    if (size == 0) {
        return;
    }
    url = url ? url : "";
    size_t scheme =
        strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");
    if (scheme > 0 && strncmp(url + scheme, "://", 3) == 0) {
        put(&output, url, scheme + 3);
        put_location(&output, url + scheme + 3, strncasecmp(url, "redis", 5) == 0);
    } else if (strchr(url, '=')) {
        put_keywords(&output, url);
    } else {
        put_location(&output, url, false);
    }
    out[output.len + 1 == size ? lvt_utf8_cut(out, output.len) : output.len] = '\0';
}
