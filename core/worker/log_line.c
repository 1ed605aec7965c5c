#include "worker/log_line.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "base/utf8.h"
#include "event/json.h"

/* What closes a line that was cut: room for it is kept free. */
#define TAIL_MAX 64
/* Escaping makes six bytes of one at worst; so a text always fits, and leaves room for fields. */
#define TEXT_MAX 2000
#define VALUE_MAX 4096

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static const char *const level_colours[] = {"\x1b[90m", "\x1b[32m", "\x1b[33m", "\x1b[31m"};
static const char colour_off[] = "\x1b[0m";

static const char cut_mark[] = "\xE2\x80\xA6"; /* an ellipsis */

static void put_digits(char *at, int number, int digits) {
    while (digits > 0) {
        at[--digits] = (char)('0' + number % 10);
        number /= 10;
    }
}

/* 2026-01-02T03:04:05.678Z. By hand: this is done for each line, and printf is slow at it. */
static void write_time(struct lvt_buffer *out) {
    struct timespec now;
    struct tm utc;
    char text[] = "0000-00-00T00:00:00.000Z";
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    put_digits(text, utc.tm_year + 1900, 4);
    put_digits(text + 5, utc.tm_mon + 1, 2);
    put_digits(text + 8, utc.tm_mday, 2);
    put_digits(text + 11, utc.tm_hour, 2);
    put_digits(text + 14, utc.tm_min, 2);
    put_digits(text + 17, utc.tm_sec, 2);
    put_digits(text + 20, (int)(now.tv_nsec / 1000000), 3);
    lvt_buffer_append(out, text, sizeof text - 1);
}

static struct lvt_bytes cut(struct lvt_bytes text, size_t max, bool *ret_cut) {
    *ret_cut = text.len > max;
    return *ret_cut ? lvt_bytes(text.data, lvt_utf8_cut(text.data, max)) : text;
}

/* Valid JSON has line breaks between its tokens only, where a space does as well. */
static void write_json(struct lvt_buffer *out, struct lvt_bytes json) {
    for (size_t at = 0; at < json.len;) {
        size_t run = at;
        while (run < json.len && (unsigned char)json.data[run] >= 0x20) {
            run++;
        }
        lvt_buffer_append(out, json.data + at, run - at);
        if (run < json.len) {
            lvt_buffer_char(out, ' ');
            run++;
        }
        at = run;
    }
}

/* ---- text ---- */

static void write_escape(struct lvt_buffer *out, unsigned char c) {
    switch (c) {
    case '\n':
        lvt_buffer_text(out, "\\n");
        return;
    case '\r':
        lvt_buffer_text(out, "\\r");
        return;
    case '\t':
        lvt_buffer_text(out, "\\t");
        return;
    default:
        lvt_buffer_printf(out, "\\x%02x", c);
    }
}

void lvt_text_escape(struct lvt_buffer *out, struct lvt_bytes text, bool quoted) {
    for (size_t at = 0, len; at < text.len; at += len) {
        const char *c = text.data + at;
        len = lvt_utf8_length(c, text.len - at);
        if (len == 0 || lvt_utf8_is_control(c, len)) {
            size_t bytes = len ? len : 1;
            for (size_t i = 0; i < bytes; i++) {
                write_escape(out, (unsigned char)c[i]);
            }
            len = bytes;
        } else {
            if (quoted && (*c == '"' || *c == '\\')) {
                lvt_buffer_char(out, '\\');
            }
            lvt_buffer_append(out, c, len);
        }
    }
}

/* Whether a reader can tell where the value ends without quotes. */
static bool is_bare(struct lvt_bytes text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (c <= 0x20 || c >= 0x7F || c == '"' || c == '=' || c == '\\') {
            return false;
        }
    }
    return text.len > 0;
}

static void write_value(struct lvt_buffer *out, struct lvt_bytes text) {
    bool is_cut;
    text = cut(text, VALUE_MAX, &is_cut);
    if (!is_cut && is_bare(text)) {
        lvt_buffer_append(out, text.data, text.len);
        return;
    }
    lvt_buffer_char(out, '"');
    lvt_text_escape(out, text, true);
    lvt_buffer_text(out, is_cut ? cut_mark : "");
    lvt_buffer_char(out, '"');
}

static void write_key(struct lvt_buffer *out, const char *key) {
    for (const char *c = key; *c; c++) {
        bool plain = *c > 0x20 && *c < 0x7F && *c != '=' && *c != '"';
        lvt_buffer_char(out, plain ? *c : '_');
    }
}

static void text_field(struct lvt_buffer *out, const struct lvt_field *field) {
    lvt_buffer_char(out, ' ');
    write_key(out, field->key);
    lvt_buffer_char(out, '=');
    switch (field->kind) {
    case LVT_FIELD_TEXT:
        write_value(out, field->value.text);
        break;
    case LVT_FIELD_INTEGER:
        lvt_buffer_printf(out, "%lld", (long long)field->value.integer);
        break;
    case LVT_FIELD_NUMBER:
        if (!lvt_json_write_number(out, field->value.number)) {
            lvt_buffer_text(out, isnan(field->value.number) ? "nan" : "inf");
        }
        break;
    case LVT_FIELD_BOOLEAN:
        lvt_buffer_text(out, field->value.boolean ? "true" : "false");
        break;
    case LVT_FIELD_JSON:
        if (field->value.text.len > VALUE_MAX) {
            write_value(out, field->value.text);
        } else {
            write_json(out, field->value.text);
        }
        break;
    }
}

static void text_line(struct lvt_buffer *out, bool colours, enum lvt_level level,
                      const char *text) {
    bool is_cut;
    struct lvt_bytes shown = cut(lvt_bytes_of(text), TEXT_MAX, &is_cut);
    write_time(out);
    lvt_buffer_printf(out, " %s%-5s%s ", colours ? level_colours[level] : "", level_names[level],
                      colours ? colour_off : "");
    lvt_text_escape(out, shown, false);
    lvt_buffer_text(out, is_cut ? cut_mark : "");
}

/* ---- JSON ---- */

static void json_string(struct lvt_buffer *out, struct lvt_bytes text, size_t max) {
    bool is_cut;
    text = cut(text, max, &is_cut);
    lvt_json_write_string(out, text);
    if (is_cut && !out->failed) {
        lvt_buffer_truncate(out, out->len - 1);
        lvt_buffer_printf(out, "%s\"", cut_mark);
    }
}

/* A handler's field must not look like the line's own. */
static bool is_reserved(const char *key) {
    return strcmp(key, "time") == 0 || strcmp(key, "level") == 0 || strcmp(key, "text") == 0 ||
           strcmp(key, "cut") == 0;
}

static void json_field(struct lvt_buffer *out, const struct lvt_field *field) {
    lvt_buffer_char(out, ',');
    lvt_json_write_string(out, lvt_bytes_of(field->key));
    if (is_reserved(field->key) && !out->failed) {
        lvt_buffer_truncate(out, out->len - 1);
        lvt_buffer_text(out, "_\"");
    }
    lvt_buffer_char(out, ':');
    switch (field->kind) {
    case LVT_FIELD_TEXT:
        json_string(out, field->value.text, VALUE_MAX);
        break;
    case LVT_FIELD_INTEGER:
        lvt_buffer_printf(out, "%lld", (long long)field->value.integer);
        break;
    case LVT_FIELD_NUMBER:
        if (!lvt_json_write_number(out, field->value.number)) {
            lvt_buffer_text(out, isnan(field->value.number) ? "\"nan\"" : "\"inf\"");
        }
        break;
    case LVT_FIELD_BOOLEAN:
        lvt_buffer_text(out, field->value.boolean ? "true" : "false");
        break;
    case LVT_FIELD_JSON:
        if (field->value.text.len > VALUE_MAX) {
            json_string(out, field->value.text, VALUE_MAX);
        } else {
            write_json(out, field->value.text);
        }
        break;
    }
}

static void json_line(struct lvt_buffer *out, enum lvt_level level, const char *text) {
    lvt_buffer_text(out, "{\"time\":\"");
    write_time(out);
    lvt_buffer_printf(out, "\",\"level\":\"%s\",\"text\":", level_names[level]);
    json_string(out, lvt_bytes_of(text), TEXT_MAX);
}

/* ---- both ---- */

void lvt_log_line(const struct lvt_log_style *style, enum lvt_level level, const char *text,
                  const struct lvt_field *fields, size_t field_count, struct lvt_log_text *ret) {
    bool json = style->format == LVT_LOG_JSON, is_cut = false;
    struct lvt_buffer line;
    size_t max = style->max_bytes;
    lvt_buffer_init_fixed(&line, ret->text,
                          max > 0 && max < LVT_LOG_LINE_MAX ? max + 1 : sizeof ret->text);
    line.max -= TAIL_MAX;
    if (json) {
        json_line(&line, level, text);
    } else {
        text_line(&line, style->colours, level, text);
    }
    for (size_t i = 0; i < field_count; i++) {
        size_t before = line.len;
        if (json) {
            json_field(&line, &fields[i]);
        } else {
            text_field(&line, &fields[i]);
        }
        if (line.failed) {
            lvt_buffer_truncate(&line, before);
            is_cut = true;
        }
    }
    line.max += TAIL_MAX;
    if (is_cut) {
        lvt_buffer_text(&line, json ? ",\"cut\":true" : " cut=true");
    }
    lvt_buffer_text(&line, json ? "}" : "");
    ret->len = line.len;
}
