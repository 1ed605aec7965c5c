/* Sends mail: {"to", "subject", "body", "html"}. */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/open.h"
#include "common/wanted.h"
#include "email/mime.h"
#include "email/smtp.h"

static const struct leveret_host *host;

struct email {
    struct lvt_smtp_settings server;
    char *from, *from_name;
    struct lvt_smtp *smtp;
};

static const struct lvt_setting settings[] = {
    {"url", LVT_SETTING_TEXT, offsetof(struct email, server.url), true, 0},
    {"username", LVT_SETTING_TEXT, offsetof(struct email, server.username), false, 0},
    {"password", LVT_SETTING_TEXT, offsetof(struct email, server.password), false, 0},
    {"ca_file", LVT_SETTING_TEXT, offsetof(struct email, server.ca_file), false, 0},
    {"hello", LVT_SETTING_TEXT, offsetof(struct email, server.hello), false, 0},
    {"plaintext", LVT_SETTING_BOOLEAN, offsetof(struct email, server.plaintext), false, 0},
    {"from", LVT_SETTING_TEXT, offsetof(struct email, from), true, 0},
    {"from_name", LVT_SETTING_TEXT, offsetof(struct email, from_name), false, 0},
};
#define SETTING_COUNT (sizeof settings / sizeof *settings)

/* ---- an event ---- */

struct message {
    char *to, *subject, *text, *html;
    size_t text_len, html_len;
};

/* Absent, null and "" are all the same: there is none. */
static bool read_part(struct leveret_text payload, const char *pointer, const char *name,
                      size_t *ret_len, char **ret_text, struct lvt_failure *failure) {
    int32_t kind = host->json_at(payload, pointer, NULL);
    if (kind == LEVERET_JSON_MISSING || kind == LEVERET_JSON_NULL)
        return true;
    if (!lvt_json_text(host, payload, pointer, name, ret_len, ret_text, failure))
        return false;
    if (*ret_len == 0) {
        free(*ret_text);
        *ret_text = NULL;
    }
    return true;
}

static bool read_message(struct leveret_text payload, struct message *message,
                         struct lvt_failure *failure) {
    if (!lvt_json_text(host, payload, "/to", "to", NULL, &message->to, failure) ||
        !lvt_mail_address_check(message->to, "to", failure) ||
        !lvt_json_text(host, payload, "/subject", "subject", NULL, &message->subject, failure) ||
        !lvt_mail_header_check(message->subject, "subject", failure) ||
        !read_part(payload, "/body", "body", &message->text_len, &message->text, failure) ||
        !read_part(payload, "/html", "html", &message->html_len, &message->html, failure))
        return false;
    if (!message->text && !message->html)
        return lvt_failed(failure, LEVERET_REJECT, "there is neither a body nor html");
    return true;
}

static void free_message(struct message *message) {
    free(message->to);
    free(message->subject);
    free(message->text);
    free(message->html);
}

static bool is_wanted(void *ctx) {
    return lvt_event_is_wanted(host, ctx);
}

static bool send_message(struct email *email, struct leveret_event event,
                         const struct leveret_event_info *info, const struct message *message,
                         struct lvt_failure *failure) {
    char message_id[512];
    struct lvt_smtp_mail sent = {
        .from = email->from, .to = message->to, .wanted = is_wanted, .ctx = &event};
    lvt_mail_message_id(info->id, email->from, message_id, sizeof message_id);
    const struct lvt_mail mail = {
        .from = email->from,
        .from_name = email->from_name,
        .to = message->to,
        .subject = message->subject,
        .text = {message->text, message->text_len},
        .html = {message->html, message->html_len},
        .message_id = message_id,
        .date = time(NULL),
    };
    char *built = lvt_mime_build(&mail, &sent.len);
    if (!built)
        return lvt_failed_memory(failure);
    sent.message = built;
    bool done = lvt_smtp_send(email->smtp, &sent, failure);
    free(built);
    const struct leveret_field fields[] = {
        leveret_field_text("to", leveret_text_of(message->to)),
        leveret_field_text("message_id", leveret_text_of(message_id)),
    };
    if (done)
        host->event_log(event, LEVERET_LOG_INFO, "mail sent", fields, 2);
    return done;
}

static int32_t handle(void *self, struct leveret_event event) {
    struct message message = {0};
    struct lvt_failure failure;
    const struct leveret_event_info *info = host->info(event);
    bool done = info && read_message(info->payload, &message, &failure) &&
                send_message(self, event, info, &message, &failure);
    free_message(&message);
    if (done || !info)
        return LEVERET_DONE;
    return host->finish(event, failure.verdict, failure.text, -1);
}

/* ---- the plugin ---- */

static void close_plugin(void *self) {
    struct email *email = self;
    lvt_smtp_free(email->smtp);
    lvt_settings_free(settings, SETTING_COUNT, email);
    free(email);
}

static bool fill(void *self, struct leveret_text config, struct lvt_failure *failure) {
    struct email *email = self;
    return lvt_settings_read(host, config, settings, SETTING_COUNT, email, failure) &&
           lvt_mail_address_check(email->from, "from", failure) &&
           (!email->from_name || lvt_mail_header_check(email->from_name, "from_name", failure)) &&
           lvt_smtp_new(&email->server, &email->smtp, failure);
}

static int32_t open_plugin(struct leveret_handler *handler, struct leveret_text config,
                           void **ret_self, char *error, size_t error_size) {
    (void)handler;
    return lvt_plugin_open(sizeof(struct email), fill, close_plugin, config, ret_self, error,
                           error_size);
}

static const char *const events[] = {"email", NULL};

static const struct leveret_plugin plugin = {
    LEVERET_PLUGIN_HEAD,
    "email",
    "1.0",
    events,
    "{\"queue\": \"email_queue\", \"queue_type\": \"classic\", \"max_priority\": 9, "
    "\"bind\": false, \"dead_letter\": \"failed_queue\", "
    "\"concurrency\": 8, \"timeout_ms\": 120000, \"retry\": {\"base_ms\": 5000, "
    "\"cap_ms\": 600000}}",
    LEVERET_PLUGIN_BLOCKING,
    open_plugin,
    handle,
    close_plugin,
};

const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *the_host) {
    host = the_host;
    return &plugin;
}
