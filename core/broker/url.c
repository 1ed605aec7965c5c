#include "broker/url.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define WANTED "rabbitmq.url must look like amqp://user:password@host:5672/vhost (amqps:// for TLS)"

void lvt_amqp_url_free(struct lvt_amqp_url *url) {
    if (!url) {
        return;
    }
    free(url->host);
    free(url->user);
    free(url->password);
    free(url->vhost);
    *url = (struct lvt_amqp_url){0};
}

static int hex_digit(char c) {
    return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* Resolves %XX into a new string. */
static enum leveret_code decode(struct lvt_bytes text, char **ret, struct leveret_error *err) {
    char *out = malloc(text.len + 1), *at = out;
    if (!out) {
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (c == '%') {
            if (i + 2 >= text.len || !isxdigit((unsigned char)text.data[i + 1]) ||
                !isxdigit((unsigned char)text.data[i + 2])) {
                free(out);
                return leveret_fail(err, LEVERET_CONFIG,
                                    "rabbitmq.url has a %% that two hexadecimal digits do not "
                                    "follow; write %%25 for the sign itself");
            }
            c = (char)(hex_digit(text.data[i + 1]) * 16 + hex_digit(text.data[i + 2]));
            i += 2;
        }
        if (c == '\0') {
            free(out);
            return leveret_fail(err, LEVERET_CONFIG, "rabbitmq.url has a NUL byte (%%00) in it");
        }
        *at++ = c;
    }
    *at = '\0';
    *ret = out;
    return LEVERET_OK;
}

/* Cuts `text` at the first (or last) `c`: what is before it is returned, what follows stays. When
 * there is none, everything is before. */
static struct lvt_bytes cut(struct lvt_bytes *text, char c, bool last, bool *ret_found) {
    const char *at = text->len == 0 ? NULL
                     : last         ? memrchr(text->data, c, text->len)
                                    : memchr(text->data, c, text->len);
    *ret_found = at != NULL;
    struct lvt_bytes before = *text;
    if (at) {
        before.len = (size_t)(at - text->data);
        text->data += before.len + 1;
        text->len -= before.len + 1;
    } else {
        *text = lvt_bytes("", 0);
    }
    return before;
}

static enum leveret_code parse_port(struct lvt_bytes text, int *ret, struct leveret_error *err) {
    int port = 0;
    bool good = text.len > 0 && text.len <= 5;
    for (size_t i = 0; good && i < text.len; i++) {
        good = isdigit((unsigned char)text.data[i]);
        port = port * 10 + (text.data[i] - '0');
    }
    if (!good || port < 1 || port > 65535) {
        return leveret_fail(err, LEVERET_CONFIG, "rabbitmq.url: the port must be 1 to 65535");
    }
    *ret = port;
    return LEVERET_OK;
}

static enum leveret_code parse_host(struct lvt_bytes text, struct lvt_amqp_url *url,
                                    struct leveret_error *err) {
    bool found = false;
    struct lvt_bytes host;
    if (text.len > 0 && text.data[0] == '[') { /* an IPv6 address */
        text.data++;
        text.len--;
        host = cut(&text, ']', false, &found);
        if (!found || (text.len > 0 && text.data[0] != ':')) {
            return leveret_fail(err, LEVERET_CONFIG, WANTED);
        }
        found = text.len > 0;
        text.data += found;
        text.len -= found;
    } else {
        host = cut(&text, ':', false, &found);
    }
    if (found) {
        enum leveret_code code = parse_port(text, &url->port, err);
        if (code != LEVERET_OK) {
            return code;
        }
    }
    return decode(host.len > 0 ? host : LVT_LITERAL("localhost"), &url->host, err);
}

static enum leveret_code parse(struct lvt_bytes text, struct lvt_amqp_url *url,
                               struct leveret_error *err) {
    bool found, has_password;
    struct lvt_bytes rest = text;
    struct lvt_bytes authority = cut(&rest, '/', false, &found);
    if (memchr(text.data, '?', text.len) || memchr(text.data, '#', text.len) ||
        (rest.len > 0 && memchr(rest.data, '/', rest.len))) {
        return leveret_fail(err, LEVERET_CONFIG,
                            WANTED
                            ", without parameters; write / as %%2F, ? as %%3F and # as %%23 "
                            "inside a part");
    }
    struct lvt_bytes user = LVT_LITERAL("guest"), password = LVT_LITERAL("guest");
    struct lvt_bytes host = authority;
    struct lvt_bytes login = cut(&host, '@', true, &found);
    if (found) {
        user = cut(&login, ':', false, &has_password);
        password = has_password ? login : LVT_LITERAL("");
    } else {
        host = authority;
    }
    enum leveret_code code = parse_host(host, url, err);
    if (code == LEVERET_OK) {
        code = decode(user, &url->user, err);
    }
    if (code == LEVERET_OK) {
        code = decode(password, &url->password, err);
    }
    if (code == LEVERET_OK) {
        code = decode(rest.len > 0 ? rest : LVT_LITERAL("/"), &url->vhost, err);
    }
    return code;
}

enum leveret_code lvt_amqp_url_parse(const char *text, struct lvt_amqp_url *ret,
                                     struct leveret_error *err) {
    struct lvt_amqp_url url = {.port = 5672};
    if (strncmp(text, "amqp://", 7) == 0) {
        text += 7;
    } else if (strncmp(text, "amqps://", 8) == 0) {
        text += 8;
        url.tls = true;
        url.port = 5671;
    } else {
        return leveret_fail(err, LEVERET_CONFIG, WANTED);
    }
    enum leveret_code code = parse(lvt_bytes_of(text), &url, err);
    if (code != LEVERET_OK) {
        lvt_amqp_url_free(&url);
        return code;
    }
    *ret = url;
    return LEVERET_OK;
}
