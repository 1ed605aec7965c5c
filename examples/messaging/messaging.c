#include "messaging.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS 30000

/* A JSON object that is being written. */
struct payload {
    FILE *out;
    char *text;
    size_t len;
    bool failed;
};

static enum leveret_code fail(struct leveret_error *err, enum leveret_code code, const char *text) {
    if (err) {
        err->code = code;
        snprintf(err->text, sizeof err->text, "%s", text);
    }
    return code;
}

/* It stays where it is until it is sent: the stream writes to its members. */
static void begin(struct payload *payload) {
    *payload = (struct payload){0};
    payload->out = open_memstream(&payload->text, &payload->len);
    payload->failed = !payload->out;
}

/* A member whose value is JSON already. */
static void add(struct payload *payload, const char *name, const char *json) {
    if (!payload->failed)
        fprintf(payload->out, "%c\"%s\":%s", ftell(payload->out) == 0 ? '{' : ',', name, json);
}

/* NULL: no such member. */
static void add_text(struct payload *payload, const char *name, const char *text) {
    if (!text)
        return;
    size_t size = strlen(text) * 6 + 3; /* each byte as \u0000, the quotes, a NUL */
    char *quoted = malloc(size);
    if (quoted && leveret_host()->json_quote(leveret_text_of(text), quoted, size) >= 0)
        add(payload, name, quoted);
    else
        payload->failed = true;
    free(quoted);
}

/* Ends the payload, sends it, and frees it. */
static enum leveret_code send(struct leveret_publisher *publisher, const char *type,
                              struct payload *payload, const struct leveret_send_options *options,
                              struct leveret_error *err) {
    static const struct leveret_send_options none;
    char queue[64];
    bool failed = payload->failed;
    if (payload->out) {
        failed = fputc('}', payload->out) == EOF || failed;
        failed = fclose(payload->out) != 0 || failed;
    }
    if (failed) {
        free(payload->text);
        return fail(err, LEVERET_NO_MEMORY, "out of memory for a message");
    }
    options = options ? options : &none;
    snprintf(queue, sizeof queue, "%s_queue", type);
    struct leveret_outgoing outgoing =
        leveret_outgoing(leveret_text_of(type), (struct leveret_text){payload->text, payload->len});
    outgoing.queue = leveret_text_of(queue);
    outgoing.id = leveret_text_of(options->id);
    outgoing.max_attempts = options->max_attempts;
    outgoing.delay_ms = options->delay_ms;
    outgoing.priority = options->priority;
    enum leveret_code code = leveret_publisher_publish_wait(
        publisher, &outgoing, options->wait_ms ? options->wait_ms : WAIT_MS, NULL, err);
    free(payload->text);
    return code;
}

enum leveret_code leveret_send_email(struct leveret_publisher *publisher, const char *to,
                                     const char *subject, const char *body, const char *html,
                                     const struct leveret_send_options *options,
                                     struct leveret_error *err) {
    struct payload payload;
    begin(&payload);
    add_text(&payload, "to", to);
    add_text(&payload, "subject", subject);
    add_text(&payload, "body", body);
    add_text(&payload, "html", html);
    return send(publisher, "email", &payload, options, err);
}

enum leveret_code leveret_send_backup(struct leveret_publisher *publisher, const char *database,
                                      const char *path, bool compress,
                                      const struct leveret_send_options *options,
                                      struct leveret_error *err) {
    struct payload payload;
    begin(&payload);
    add_text(&payload, "database", database);
    add_text(&payload, "path", path);
    add(&payload, "compress", compress ? "true" : "false");
    return send(publisher, "backup", &payload, options, err);
}

enum leveret_code leveret_send_cleanup(struct leveret_publisher *publisher, const char *target,
                                       uint32_t days, const struct leveret_send_options *options,
                                       struct leveret_error *err) {
    struct payload payload;
    begin(&payload);
    char number[16];
    snprintf(number, sizeof number, "%lu", (unsigned long)days);
    add_text(&payload, "target", target);
    add(&payload, "days", number);
    return send(publisher, "cleanup", &payload, options, err);
}

enum leveret_code leveret_send_notification(struct leveret_publisher *publisher, const char *user,
                                            const char *type, const char *title,
                                            const char *message, const char *data,
                                            const struct leveret_send_options *options,
                                            struct leveret_error *err) {
    if (data && !leveret_host()->json_valid(leveret_text_of(data)))
        return fail(err, LEVERET_MALFORMED, "the data of a notification is not JSON");
    struct payload payload;
    begin(&payload);
    add_text(&payload, "user", user);
    add_text(&payload, "type", type);
    add_text(&payload, "title", title);
    add_text(&payload, "message", message);
    if (data)
        add(&payload, "data", data);
    return send(publisher, "notification", &payload, options, err);
}
