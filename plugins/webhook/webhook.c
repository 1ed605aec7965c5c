/* POSTs each event to a URL, signed. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../json_text.h"
#include "config.h"
#include "retry_after.h"

/* Of an id or a type in a header. */
#define HEADER_BYTES 1024
/* Of what the receiver says, in the reason. */
#define EXCERPT_BYTES 200

const struct leveret_host *host;

/* ---- what came of it ---- */

/* Its first words, in one line. */
static void excerpt(struct leveret_text body, char text[EXCERPT_BYTES]) {
    size_t len = 0;
    while (len < body.len && len + 1 < EXCERPT_BYTES) {
        unsigned char c = (unsigned char)body.data[len];
        text[len++] = c < ' ' || c == 0x7f ? ' ' : (char)c;
    }
    text[len] = '\0';
}

static int64_t asked_wait_ms(const struct leveret_answer *answer) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (size_t i = 0; i < answer->http_header_count; i++) {
        const struct leveret_pair *header = &answer->http_headers[i];
        if (header->name.len == 11 && memcmp(header->name.data, "retry-after", 11) == 0)
            return retry_after_ms(header->value.data, header->value.len, &now);
    }
    return -1;
}

static void judge(struct leveret_event event, const struct leveret_answer *answer) {
    char said[EXCERPT_BYTES], reason[EXCERPT_BYTES + 80];
    int32_t status = answer->http_status;
    if (status >= 200 && status < 300) {
        host->finish(event, LEVERET_DONE, NULL, -1);
        return;
    }
    excerpt(answer->http_body, said);
    snprintf(reason, sizeof reason, "the receiver answered %" PRId32 "%s%s", status,
             said[0] ? ": " : "", said);
    if (status == 429 || status >= 500)
        host->finish(event, LEVERET_RETRY, reason, asked_wait_ms(answer));
    else
        host->finish(event, LEVERET_REJECT, reason, -1);
}

static void answered(void *ctx, const struct leveret_answer *answer) {
    struct leveret_event *kept = ctx, event = *kept;
    char error[EXCERPT_BYTES], reason[EXCERPT_BYTES + 40];
    free(kept);
    if (answer->status == LEVERET_STATUS_OK) {
        judge(event, answer);
        return;
    }
    excerpt(answer->error, error);
    snprintf(reason, sizeof reason, "the request failed: %s", error);
    host->finish(event, LEVERET_RETRY, reason, -1);
}

/* ---- the request ---- */

/* Visible ASCII as it is, all else and '%' as %XX: a header holds no line breaks. */
static struct leveret_text header_value(struct leveret_text text, char buffer[HEADER_BYTES]) {
    size_t len = 0;
    for (size_t i = 0; i < text.len && len + 4 < HEADER_BYTES; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c > ' ' && c < 0x7f && c != '%')
            buffer[len++] = (char)c;
        else
            len += (size_t)snprintf(buffer + len, 4, "%%%02X", c);
    }
    return (struct leveret_text){buffer, len};
}

static void write_body(struct json_text *body, const struct leveret_event_info *info) {
    json_text_add(body, "{\"type\":");
    json_text_quote(body, host, info->type);
    json_text_member(body, host, "id", info->id);
    json_text_member(body, host, "time", info->time);
    json_text_add(body, ",\"payload\":");
    json_text_append(body, info->payload);
    json_text_add(body, "}");
}

static const struct leveret_answer *post(const struct webhook_config *config, const char *url,
                                         struct leveret_event *kept,
                                         const struct leveret_event_info *info,
                                         struct leveret_text body) {
    char signature[SIGNATURE_BYTES], type[HEADER_BYTES], id[HEADER_BYTES], attempt[16];
    signature_write(&config->key, time(NULL), body.data, body.len, signature);
    snprintf(attempt, sizeof attempt, "%" PRIu32, info->attempt);
    struct leveret_pair headers[] = {
        {leveret_text_of("content-type"), leveret_text_of("application/json")},
        {leveret_text_of("leveret-signature"), leveret_text_of(signature)},
        {leveret_text_of("leveret-event-type"), header_value(info->type, type)},
        {leveret_text_of("leveret-attempt"), leveret_text_of(attempt)},
        {leveret_text_of("leveret-event-id"), header_value(info->id, id)},
    };
    size_t count = sizeof headers / sizeof *headers;
    const struct leveret_http_request request = {
        .size = sizeof request,
        .method = leveret_text_of("POST"),
        .url = leveret_text_of(url),
        .body = body,
        .headers = headers,
        .header_count = info->id.len > 0 ? count : count - 1,
        .timeout_ms = config->timeout_ms,
    };
    return host->http(*kept, &request, answered, kept);
}

/* ---- the plugin ---- */

static int32_t open_plugin(struct leveret_handler *handler, struct leveret_text json,
                           void **ret_self, char *error, size_t error_size) {
    (void)handler;
    struct webhook_config *config = webhook_config_read(json, error, error_size);
    if (config)
        *ret_self = config;
    return config ? 0 : 1;
}

static int32_t handle(void *self, struct leveret_event event) {
    const struct leveret_event_info *info = host->info(event);
    const char *url = webhook_config_url(self, info->type);
    struct json_text body = {0};
    if (!url)
        return host->finish(event, LEVERET_DROP, "no address for events of this type", -1);
    write_body(&body, info);
    struct leveret_event *kept = malloc(sizeof *kept);
    if (!kept || body.failed) {
        free(kept);
        free(body.data);
        return host->finish(event, LEVERET_RETRY, "out of memory", -1);
    }
    *kept = event;
    const struct leveret_answer *refused =
        post(self, url, kept, info, (struct leveret_text){body.data, body.len});
    free(body.data);
    if (refused)
        answered(kept, refused);
    return LEVERET_PENDING;
}

static void close_plugin(void *self) {
    webhook_config_free(self);
}

static const char *const events[] = {"#", NULL};

static const struct leveret_plugin plugin = {
    LEVERET_PLUGIN_HEAD,
    "webhook",
    "1.0",
    events,
    "{\"retry\": {\"max\": 10, \"base_ms\": 1000, \"factor\": 3, \"cap_ms\": 3600000, "
    "\"jitter\": 0.2}}",
    0,
    open_plugin,
    handle,
    close_plugin,
};

const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *the_host) {
    host = the_host;
    return &plugin;
}
