#include "line.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static void append_time(struct json_text *out, const struct timespec *now) {
    char text[64], seconds[32];
    struct tm tm;
    gmtime_r(&now->tv_sec, &tm);
    strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, sizeof text, "{\"at\":\"%s.%03ldZ\"", seconds, now->tv_nsec / 1000000);
    json_text_add(out, text);
}

static void append_value(struct json_text *out, const struct leveret_header *header) {
    char number[40];
    switch (header->kind) {
    case LEVERET_HEADER_BOOLEAN:
        json_text_add(out, header->integer ? "true" : "false");
        return;
    case LEVERET_HEADER_INTEGER:
        snprintf(number, sizeof number, "%" PRId64, header->integer);
        json_text_add(out, number);
        return;
    case LEVERET_HEADER_NUMBER:
        snprintf(number, sizeof number, "%.17g", header->number);
        for (char *c = number; *c; c++) /* the program's locale may have a decimal comma */
            *c = *c == ',' ? '.' : *c;
        json_text_add(out, isfinite(header->number) ? number : "null");
        return;
    case LEVERET_HEADER_TEXT:
        json_text_quote(out, host, header->text);
        return;
    default:
        json_text_add(out, "null");
        return;
    }
}

/* Of the retries, not of the publisher. */
static bool is_bookkeeping(struct leveret_text name) {
    static const char *const prefixes[] = {"leveret-", "x-death", "x-first-death-",
                                           "x-last-death-"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t len = strlen(prefixes[i]);
        if (name.len >= len && memcmp(name.data, prefixes[i], len) == 0)
            return true;
    }
    return false;
}

static void append_headers(struct json_text *out, struct leveret_event event, size_t count) {
    const char *separator = ",\"headers\":{";
    struct leveret_header header;
    for (size_t i = 0; i < count; i++) {
        if (!host->header_at(event, i, &header) || header.kind == LEVERET_HEADER_NESTED ||
            is_bookkeeping(header.name))
            continue;
        json_text_add(out, separator);
        json_text_quote(out, host, header.name);
        json_text_add(out, ":");
        append_value(out, &header);
        separator = ",";
    }
    if (separator[1] == '\0')
        json_text_add(out, "}");
}

/* Line breaks in JSON are between its values only, where a space does as well. */
static void append_payload(struct json_text *out, struct leveret_text payload) {
    json_text_add(out, ",\"payload\":");
    size_t at = out->len;
    json_text_append(out, payload);
    for (; at < out->len; at++)
        if (out->data[at] == '\n' || out->data[at] == '\r')
            out->data[at] = ' ';
}

void line_append(struct json_text *out, struct leveret_event event,
                 const struct leveret_event_info *info, const struct timespec *now) {
    char attempt[32];
    append_time(out, now);
    json_text_member(out, host, "id", info->id);
    json_text_member(out, host, "type", info->type);
    json_text_member(out, host, "time", info->time);
    json_text_member(out, host, "exchange", info->exchange);
    json_text_member(out, host, "routing_key", info->routing_key);
    json_text_member(out, host, "queue", info->queue);
    snprintf(attempt, sizeof attempt, ",\"attempt\":%" PRIu32, info->attempt);
    json_text_add(out, attempt);
    append_headers(out, event, info->header_count);
    append_payload(out, info->payload);
    json_text_add(out, "}\n");
}
