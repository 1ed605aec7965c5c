#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/utf8.h"
#include "cli/dlq.h"
#include "event/envelope.h"
#include "event/json.h"

#define BODY_SHOWN_MAX 4096
#define ERROR_SHOWN_MAX 300

enum leveret_code lvt_dlq_print(struct lvt_buffer *out, struct leveret_error *err) {
    enum leveret_code code = LEVERET_OK;
    if (out->failed)
        code = leveret_fail(err, LEVERET_TOO_BIG, "that is too much to show: lower --limit");
    else if (out->len > 0 && (fwrite(out->data, 1, out->len, stdout) != out->len || fflush(stdout)))
        code = leveret_fail(err, LEVERET_SYSTEM, "standard output does not take it all");
    lvt_buffer_free(out);
    return code;
}

/* ---- times ---- */

/* "3m", "2h", "5d" */
static void write_age(struct lvt_buffer *out, int64_t at_s, int64_t now_s) {
    int64_t age_s = now_s > at_s ? now_s - at_s : 0;
    if (age_s < 60)
        lvt_buffer_printf(out, "%" PRId64 "s", age_s);
    else if (age_s < 3600)
        lvt_buffer_printf(out, "%" PRId64 "m", age_s / 60);
    else if (age_s < 2 * 86400)
        lvt_buffer_printf(out, "%" PRId64 "h", age_s / 3600);
    else
        lvt_buffer_printf(out, "%" PRId64 "d", age_s / 86400);
}

/* A time that no calendar has is none. */
static bool format_time(int64_t at_s, char text[32]) {
    time_t seconds = (time_t)at_s;
    struct tm utc;
    return at_s >= 0 && at_s < INT64_C(253402300800) && gmtime_r(&seconds, &utc) &&
           strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &utc) > 0;
}

static void write_time_member(struct lvt_buffer *out, const char *key, int64_t at_s) {
    char text[32];
    if (format_time(at_s, text))
        lvt_dlq_write_member(out, key, lvt_bytes_of(text));
    else
        lvt_buffer_printf(out, "\"%s\":null", key);
}

/* ---- texts ---- */

void lvt_dlq_write_member(struct lvt_buffer *out, const char *key, struct lvt_bytes text) {
    lvt_buffer_printf(out, "\"%s\":", key);
    lvt_json_write_string(out, text);
}

static void write_name(struct lvt_buffer *out, struct lvt_bytes name, const char *otherwise) {
    if (name.len > 0)
        lvt_text_escape(out, name, false);
    else
        lvt_buffer_text(out, otherwise);
}

static void write_line(struct lvt_buffer *out, const char *label, struct lvt_bytes text) {
    if (text.len == 0)
        return;
    lvt_buffer_printf(out, "  %-12s ", label);
    lvt_text_escape(out, text, false);
    lvt_buffer_char(out, '\n');
}

/* Tabs at the beginning of a line, as Lua's traces have them, are left to our own indentation. */
static void write_block(struct lvt_buffer *out, struct lvt_bytes text) {
    while (text.len > 0) {
        while (text.len > 0 && *text.data == '\t')
            text = lvt_bytes(text.data + 1, text.len - 1);
        const char *end = memchr(text.data, '\n', text.len);
        size_t len = end ? (size_t)(end - text.data) : text.len;
        lvt_buffer_text(out, "    ");
        lvt_text_escape(out, lvt_bytes(text.data, len), false);
        lvt_buffer_char(out, '\n');
        len += end != NULL;
        text = lvt_bytes(text.data + len, text.len - len);
    }
}

static bool is_text(struct lvt_bytes body) {
    for (size_t at = 0, len; at < body.len; at += len) {
        len = lvt_utf8_length(body.data + at, body.len - at);
        if (len == 0 ||
            (lvt_utf8_is_control(body.data + at, len) && !strchr("\n\r\t", body.data[at])))
            return false;
        if (body.data[at] == '\0')
            return false;
    }
    return true;
}

/* ---- groups ---- */

void lvt_dlq_write_groups(struct lvt_buffer *out, const struct lvt_letter_groups *groups) {
    int64_t now_s = (int64_t)time(NULL);
    for (size_t i = 0; i < groups->count; i++) {
        const struct lvt_letter_group *group = groups->items[i];
        struct lvt_bytes error = lvt_bytes_of(group->error);
        lvt_buffer_printf(out, "%8llu  %s  ", (unsigned long long)group->count, group->fingerprint);
        write_name(out, lvt_bytes_of(group->event), "(no event type)");
        lvt_buffer_text(out, " in ");
        write_name(out, lvt_bytes_of(group->queue), "(queue not known)");
        lvt_buffer_printf(out, ", dead in %s", group->dead_letter);
        if (group->oldest_s >= 0) {
            lvt_buffer_text(out, ", failed ");
            write_age(out, group->newest_s, now_s);
            if (group->newest_s != group->oldest_s) {
                lvt_buffer_text(out, " to ");
                write_age(out, group->oldest_s, now_s);
            }
            lvt_buffer_text(out, " ago");
        }
        if (error.len > ERROR_SHOWN_MAX)
            error.len = lvt_utf8_cut(error.data, ERROR_SHOWN_MAX);
        lvt_buffer_text(out, "\n                    ");
        write_name(out, error, "(no error is noted)");
        lvt_buffer_char(out, '\n');
    }
    if (groups->left_out > 0)
        lvt_buffer_printf(out, "%8llu  of more causes than can be listed\n",
                          (unsigned long long)groups->left_out);
    lvt_buffer_printf(out, "%llu dead letter%s in %zu group%s\n",
                      (unsigned long long)groups->letters, groups->letters == 1 ? "" : "s",
                      groups->count, groups->count == 1 ? "" : "s");
}

void lvt_dlq_write_groups_json(struct lvt_buffer *out, const struct lvt_letter_groups *groups) {
    lvt_buffer_printf(out, "{\"letters\":%llu,\"left_out\":%llu,\"groups\":[",
                      (unsigned long long)groups->letters, (unsigned long long)groups->left_out);
    for (size_t i = 0; i < groups->count; i++) {
        const struct lvt_letter_group *group = groups->items[i];
        lvt_buffer_printf(out, "%s{\"count\":%llu,\"fingerprint\":\"%s\",", i > 0 ? ",\n" : "",
                          (unsigned long long)group->count, group->fingerprint);
        lvt_dlq_write_member(out, "event", lvt_bytes_of(group->event));
        lvt_buffer_char(out, ',');
        lvt_dlq_write_member(out, "queue", lvt_bytes_of(group->queue));
        lvt_buffer_char(out, ',');
        lvt_dlq_write_member(out, "dead_letter", lvt_bytes_of(group->dead_letter));
        lvt_buffer_char(out, ',');
        lvt_dlq_write_member(out, "handler", lvt_bytes_of(group->handler));
        lvt_buffer_char(out, ',');
        write_time_member(out, "oldest", group->oldest_s);
        lvt_buffer_char(out, ',');
        write_time_member(out, "newest", group->newest_s);
        lvt_buffer_printf(out, ",\"by_broker\":%s,", group->by_broker ? "true" : "false");
        lvt_dlq_write_member(out, "error", lvt_bytes_of(group->error));
        lvt_buffer_char(out, '}');
    }
    lvt_buffer_text(out, "]}");
}

/* ---- headers ---- */

static void write_headers(struct lvt_buffer *out, const struct lvt_headers *headers, bool table);

static void write_value(struct lvt_buffer *out, const struct lvt_header *header) {
    int64_t integer;
    switch (header->kind) {
    case LVT_HEADER_BOOLEAN:
        lvt_buffer_text(out, header->value.boolean ? "true" : "false");
        return;
    case LVT_HEADER_FLOAT:
    case LVT_HEADER_DOUBLE:
        if (!lvt_json_write_number(out, header->value.number))
            lvt_buffer_text(out, "null");
        return;
    case LVT_HEADER_DECIMAL:
        lvt_buffer_printf(out, "%" PRIu32 "e-%u", header->value.decimal.value,
                          header->value.decimal.decimals);
        return;
    case LVT_HEADER_STRING:
    case LVT_HEADER_BYTES:
        lvt_json_write_string(out, header->value.bytes);
        return;
    case LVT_HEADER_ARRAY:
    case LVT_HEADER_TABLE:
        write_headers(out, &header->value.nested, header->kind == LVT_HEADER_TABLE);
        return;
    case LVT_HEADER_UINT64:
    case LVT_HEADER_TIMESTAMP:
        lvt_buffer_printf(out, "%" PRIu64, header->value.unsigned_integer);
        return;
    default:
        if (lvt_header_integer(header, &integer))
            lvt_buffer_printf(out, "%" PRId64, integer);
        else
            lvt_buffer_text(out, "null");
    }
}

static void write_headers(struct lvt_buffer *out, const struct lvt_headers *headers, bool table) {
    lvt_buffer_char(out, table ? '{' : '[');
    for (size_t i = 0; i < headers->count; i++) {
        lvt_buffer_text(out, i > 0 ? "," : "");
        if (table) {
            lvt_json_write_string(out, headers->items[i].name);
            lvt_buffer_char(out, ':');
        }
        write_value(out, &headers->items[i]);
    }
    lvt_buffer_char(out, table ? '}' : ']');
}

static bool is_readable(const struct lvt_headers *headers) {
    return lvt_headers_depth(headers, LVT_NESTING_MAX + 1) <= LVT_NESTING_MAX;
}

/* ---- one letter ---- */

static void write_body(struct lvt_buffer *out, struct lvt_bytes body) {
    lvt_buffer_printf(out, "  body, %zu bytes:\n", body.len);
    if (!is_text(body)) {
        lvt_buffer_text(out, "    (binary: --raw writes it as it is)\n");
        return;
    }
    size_t shown = body.len > BODY_SHOWN_MAX ? lvt_utf8_cut(body.data, BODY_SHOWN_MAX) : body.len;
    write_block(out, lvt_bytes(body.data, shown));
    if (shown < body.len)
        lvt_buffer_printf(out, "    (and %zu bytes more: --raw writes all of it)\n",
                          body.len - shown);
}

static void write_header_lines(struct lvt_buffer *out, const struct lvt_headers *headers) {
    if (!is_readable(headers)) {
        lvt_buffer_text(out, "  headers: nested too deep to be shown\n");
        return;
    }
    lvt_buffer_text(out, headers->count > 0 ? "  headers:\n" : "");
    for (size_t i = 0; i < headers->count; i++) {
        struct lvt_buffer value;
        lvt_buffer_init(&value, SIZE_MAX);
        write_value(&value, &headers->items[i]);
        lvt_buffer_text(out, "    ");
        lvt_text_escape(out, headers->items[i].name, false);
        lvt_buffer_text(out, ": ");
        lvt_text_escape(out, lvt_bytes(value.data, value.len), false);
        lvt_buffer_char(out, '\n');
        lvt_buffer_free(&value);
    }
}

void lvt_dlq_write_letter(struct lvt_buffer *out, const char *dead_letter,
                          const struct lvt_letter *letter) {
    char text[64], at[32];
    write_name(out, letter->event, "(no event type)");
    lvt_buffer_char(out, ' ');
    write_name(out, letter->id, "(no id)");
    lvt_buffer_char(out, '\n');
    write_line(out, "dead in", lvt_bytes_of(dead_letter));
    write_line(out, "failed in", letter->queue);
    write_line(out, "queue", lvt_bytes_of(letter->no_origin));
    write_line(out, "exchange", letter->exchange);
    write_line(out, "routing key", letter->routing_key);
    write_line(out, "handler", letter->handler);
    if (letter->attempts >= 0) {
        snprintf(text, sizeof text, "%" PRId64, letter->attempts);
        write_line(out, "attempts", lvt_bytes_of(text));
    }
    if (format_time(letter->failed_at_s, at))
        write_line(out, "failed at", lvt_bytes_of(at));
    write_line(out, "fingerprint", lvt_bytes_of(letter->fingerprint));
    write_line(out, "error", letter->error);
    if (letter->trace.len > 0)
        lvt_buffer_text(out, "  trace:\n");
    write_block(out, letter->trace);
    write_header_lines(out, &letter->delivery->properties.headers);
    write_body(out, letter->delivery->body);
}

static void write_properties_json(struct lvt_buffer *out, const struct lvt_properties *properties) {
    const struct {
        unsigned present;
        const char *name;
        struct lvt_bytes text;
    } texts[] = {
        {LVT_HAS_CONTENT_TYPE, "content_type", properties->content_type},
        {LVT_HAS_CONTENT_ENCODING, "content_encoding", properties->content_encoding},
        {LVT_HAS_CORRELATION_ID, "correlation_id", properties->correlation_id},
        {LVT_HAS_REPLY_TO, "reply_to", properties->reply_to},
        {LVT_HAS_MESSAGE_ID, "message_id", properties->message_id},
        {LVT_HAS_TYPE, "type", properties->type},
        {LVT_HAS_APP_ID, "app_id", properties->app_id},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (properties->present & texts[i].present) {
            lvt_dlq_write_member(out, texts[i].name, texts[i].text);
            lvt_buffer_char(out, ',');
        }
    }
}

void lvt_dlq_write_letter_json(struct lvt_buffer *out, const char *dead_letter,
                               const struct lvt_letter *letter) {
    const struct {
        const char *name;
        struct lvt_bytes text;
    } texts[] = {
        {"dead_letter", lvt_bytes_of(dead_letter)},
        {"event", letter->event},
        {"id", letter->id},
        {"queue", letter->queue},
        {"exchange", letter->exchange},
        {"routing_key", letter->routing_key},
        {"handler", letter->handler},
        {"fingerprint", lvt_bytes_of(letter->fingerprint)},
        {"error", letter->error},
        {"trace", letter->trace},
    };
    const struct lvt_bytes body = letter->delivery->body;
    lvt_buffer_char(out, '{');
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        lvt_dlq_write_member(out, texts[i].name, texts[i].text);
        lvt_buffer_char(out, ',');
    }
    write_time_member(out, "failed_at", letter->failed_at_s);
    lvt_buffer_printf(out, ",\"attempts\":%" PRId64 ",\"properties\":{", letter->attempts);
    write_properties_json(out, &letter->delivery->properties);
    lvt_buffer_text(out, "\"headers\":");
    if (is_readable(&letter->delivery->properties.headers))
        write_headers(out, &letter->delivery->properties.headers, true);
    else
        lvt_buffer_text(out, "null");
    lvt_buffer_printf(out, "},\"body_bytes\":%zu,", body.len);
    if (is_text(body))
        lvt_dlq_write_member(out, "body", body);
    else
        lvt_buffer_text(out, "\"body\":null");
    lvt_buffer_char(out, '}');
}
