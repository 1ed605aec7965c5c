#include "cli/exec_print.h"

#include <math.h>
#include <stdio.h>

#include "base/buffer.h"
#include "base/utf8.h"
#include "event/json.h"

/* What is longer is cut, in text; JSON has all of it. */
#define SHOWN_MAX 400
#define LINE_MAX_BYTES ((size_t)64 << 20)

static const char *const kinds[] = {
    [LVT_STEP_BEGIN] = "begin",     [LVT_STEP_SQL] = "sql",
    [LVT_STEP_COMMIT] = "commit",   [LVT_STEP_ROLLBACK] = "rollback",
    [LVT_STEP_REDIS] = "redis",     [LVT_STEP_INVALIDATE] = "invalidate",
    [LVT_STEP_HTTP] = "http",       [LVT_STEP_INVALIDATE_LATER] = "invalidate",
    [LVT_STEP_PUBLISH] = "publish", [LVT_STEP_PUBLISH_LATER] = "publish",
    [LVT_STEP_SLEEP] = "sleep",     [LVT_STEP_LOG] = "log",
};

static const char *const levels[] = {"debug", "info", "warn", "error"};

static const char *const verdicts[] = {
    [LVT_VERDICT_DONE] = "done",           [LVT_VERDICT_RETRY] = "retry",
    [LVT_VERDICT_REJECT] = "reject",       [LVT_VERDICT_DROP] = "drop",
    [LVT_VERDICT_SNOOZE] = "snooze",       [LVT_VERDICT_OUTAGE] = "outage",
    [LVT_VERDICT_DUPLICATE] = "duplicate",
};

static void put_line(struct lvt_buffer *line) {
    if (line->failed)
        fputs("(a line that there is no memory for)\n", stdout);
    else if (line->len > 0)
        fwrite(line->data, 1, line->len, stdout);
    fflush(stdout);
    lvt_buffer_free(line);
}

/* ---- text ---- */

/* On one line, whatever it holds: runs of blanks are one, and what could move a cursor is shown by
 * its number. */
static void put_shown(struct lvt_buffer *line, struct lvt_bytes text) {
    size_t max = text.len > SHOWN_MAX ? lvt_utf8_cut(text.data, SHOWN_MAX) : text.len;
    for (size_t at = 0, len; at < max; at += len) {
        const char *c = text.data + at;
        len = lvt_utf8_length(c, max - at);
        if (*c == '\n' || *c == '\t' || *c == '\r' || *c == ' ') {
            if (at > 0 && line->len > 0 && !line->failed && line->data[line->len - 1] != ' ')
                lvt_buffer_char(line, ' ');
        } else if (len == 0 || lvt_utf8_is_control(c, len)) {
            len = len ? len : 1;
            for (size_t i = 0; i < len; i++)
                lvt_buffer_printf(line, "\\x%02x", (unsigned char)c[i]);
        } else {
            lvt_buffer_append(line, c, len);
        }
    }
    if (max < text.len)
        lvt_buffer_text(line, "\xE2\x80\xA6");
}

/* As it is when a reader can tell where it ends, else with quotes. */
static void put_word(struct lvt_buffer *line, struct lvt_bytes text) {
    bool bare = text.len > 0 && text.len <= SHOWN_MAX;
    for (size_t i = 0; i < text.len && bare; i++)
        bare = text.data[i] > ' ' && text.data[i] < 0x7F && text.data[i] != '"';
    if (bare)
        lvt_buffer_append(line, text.data, text.len);
    else
        lvt_json_write_string(line, lvt_bytes(text.data, text.len > SHOWN_MAX
                                                             ? lvt_utf8_cut(text.data, SHOWN_MAX)
                                                             : text.len));
}

static void put_field(struct lvt_buffer *line, const struct lvt_field *field, bool json) {
    switch (field->kind) {
    case LVT_FIELD_TEXT:
        if (json)
            lvt_json_write_string(line, field->value.text);
        else
            put_word(line, field->value.text);
        break;
    case LVT_FIELD_INTEGER:
        lvt_buffer_printf(line, "%lld", (long long)field->value.integer);
        break;
    case LVT_FIELD_NUMBER:
        if (!lvt_json_write_number(line, field->value.number))
            lvt_buffer_text(line, isnan(field->value.number) ? "\"nan\"" : "\"inf\"");
        break;
    case LVT_FIELD_BOOLEAN:
        lvt_buffer_text(line, field->value.boolean ? "true" : "false");
        break;
    case LVT_FIELD_JSON:
        lvt_buffer_append(line, field->value.text.data, field->value.text.len);
        break;
    }
}

static void put_params(struct lvt_buffer *line, const struct lvt_sql *sql) {
    for (size_t i = 0; i < sql->param_count; i++) {
        lvt_buffer_text(line, i > 0 ? ", " : "");
        if (sql->params[i].data)
            lvt_json_write_string(line, sql->params[i]);
        else
            lvt_buffer_text(line, "null");
    }
}

static void put_destination(struct lvt_buffer *line, const struct lvt_destination *to) {
    lvt_buffer_text(line, to->kind == LVT_TO_EXCHANGE ? "exchange " : "queue ");
    put_word(line, to->name);
    if (to->kind == LVT_TO_EXCHANGE) {
        lvt_buffer_text(line, " key ");
        put_word(line, to->routing_key);
    }
    if (to->delay_ms > 0)
        lvt_buffer_printf(line, " after %llu ms", (unsigned long long)to->delay_ms);
}

static void put_step(struct lvt_buffer *line, const struct lvt_step *step) {
    switch (step->kind) {
    case LVT_STEP_SQL:
        put_shown(line, step->of.sql->text);
        if (step->of.sql->param_count > 0) {
            lvt_buffer_text(line, "  [");
            put_params(line, step->of.sql);
            lvt_buffer_char(line, ']');
        }
        break;
    case LVT_STEP_REDIS:
        for (size_t i = 0; i < step->of.redis.argc; i++) {
            lvt_buffer_text(line, i > 0 ? " " : "");
            put_word(line, step->of.redis.argv[i]);
        }
        break;
    case LVT_STEP_INVALIDATE:
        put_word(line, step->of.pattern);
        break;
    case LVT_STEP_INVALIDATE_LATER:
        put_word(line, step->of.pattern);
        lvt_buffer_text(line, "  (waits for the commit)");
        break;
    case LVT_STEP_HTTP:
        put_shown(line, step->of.http->method);
        lvt_buffer_char(line, ' ');
        put_shown(line, step->of.http->url);
        lvt_buffer_printf(line, " (%zu bytes)", step->of.http->body.len);
        if (step->of.http->body.len > 0) {
            lvt_buffer_text(line, "  ");
            put_shown(line, step->of.http->body);
        }
        break;
    case LVT_STEP_PUBLISH:
    case LVT_STEP_PUBLISH_LATER:
        put_destination(line, &step->of.publish->destination);
        lvt_buffer_text(line, "  ");
        put_shown(line, step->of.publish->body);
        if (step->kind == LVT_STEP_PUBLISH_LATER)
            lvt_buffer_text(line, "  (waits for the commit)");
        break;
    case LVT_STEP_SLEEP:
        lvt_buffer_printf(line, "%llu ms", (unsigned long long)step->of.sleep_ms);
        break;
    case LVT_STEP_LOG:
        put_shown(line, lvt_bytes_of(step->of.log.text));
        for (size_t i = 0; i < step->of.log.field_count; i++) {
            lvt_buffer_printf(line, " %s=", step->of.log.fields[i].key);
            put_field(line, &step->of.log.fields[i], false);
        }
        break;
    default:
        break;
    }
}

static void put_reply(struct lvt_buffer *line, const struct lvt_reply *reply) {
    switch (reply->kind) {
    case LVT_REPLY_INTEGER:
        lvt_buffer_printf(line, "%lld", (long long)reply->integer);
        break;
    case LVT_REPLY_STATUS:
    case LVT_REPLY_STRING:
        put_word(line, reply->text);
        break;
    case LVT_REPLY_ARRAY:
        lvt_buffer_printf(line, "a list of %zu", reply->count);
        break;
    default:
        lvt_buffer_text(line, "nil");
        break;
    }
}

/* False when there is nothing to say of it. */
static bool put_answer(struct lvt_buffer *line, const struct lvt_step_answer *answer) {
    if (answer->result != LVT_ANSWER_OK) {
        lvt_buffer_text(line, answer->result == LVT_ANSWER_OUTAGE ? "outage: " : "error: ");
        put_shown(line, lvt_bytes_of(answer->error));
        return true;
    }
    switch (answer->kind) {
    case LVT_STEP_SQL:
        lvt_buffer_printf(line, "%zu rows, %lld affected", answer->rows->row_count,
                          (long long)answer->rows->affected);
        return true;
    case LVT_STEP_REDIS:
        put_reply(line, answer->reply);
        return true;
    case LVT_STEP_INVALIDATE:
        lvt_buffer_printf(line, "%lld keys", (long long)answer->removed);
        return true;
    case LVT_STEP_HTTP:
        lvt_buffer_printf(line, "%d, %zu bytes", answer->response->status,
                          answer->response->body.len);
        return true;
    default:
        return false;
    }
}

/* ---- JSON ---- */

static void put_member(struct lvt_buffer *line, const char *key, struct lvt_bytes text) {
    lvt_buffer_printf(line, ",\"%s\":", key);
    lvt_json_write_string(line, text);
}

static void put_number(struct lvt_buffer *line, const char *key, long long number) {
    lvt_buffer_printf(line, ",\"%s\":%lld", key, number);
}

static void put_http_json(struct lvt_buffer *line, const struct lvt_http_request *request) {
    put_member(line, "method", request->method);
    put_member(line, "url", request->url);
    lvt_buffer_text(line, ",\"headers\":{");
    for (size_t i = 0; i < request->header_count; i++) {
        lvt_buffer_text(line, i > 0 ? "," : "");
        lvt_json_write_string(line, request->headers[i].name);
        lvt_buffer_char(line, ':');
        lvt_json_write_string(line, request->headers[i].value);
    }
    lvt_buffer_char(line, '}');
    put_member(line, "body", request->body);
}

static void put_publish_json(struct lvt_buffer *line, const struct lvt_publish *publish) {
    const struct lvt_destination *to = &publish->destination;
    put_member(line, to->kind == LVT_TO_EXCHANGE ? "exchange" : "queue", to->name);
    if (to->kind == LVT_TO_EXCHANGE)
        put_member(line, "routing_key", to->routing_key);
    put_number(line, "delay_ms", (long long)to->delay_ms);
    put_member(line, "body", publish->body);
}

static void put_step_json(struct lvt_buffer *line, const struct lvt_step *step) {
    switch (step->kind) {
    case LVT_STEP_SQL:
        put_member(line, "sql", step->of.sql->text);
        lvt_buffer_text(line, ",\"params\":[");
        put_params(line, step->of.sql);
        lvt_buffer_char(line, ']');
        break;
    case LVT_STEP_REDIS:
        lvt_buffer_text(line, ",\"command\":[");
        for (size_t i = 0; i < step->of.redis.argc; i++) {
            lvt_buffer_text(line, i > 0 ? "," : "");
            lvt_json_write_string(line, step->of.redis.argv[i]);
        }
        lvt_buffer_char(line, ']');
        break;
    case LVT_STEP_INVALIDATE:
    case LVT_STEP_INVALIDATE_LATER:
        put_member(line, "pattern", step->of.pattern);
        lvt_buffer_printf(line, ",\"after_commit\":%s",
                          step->kind == LVT_STEP_INVALIDATE_LATER ? "true" : "false");
        break;
    case LVT_STEP_HTTP:
        put_http_json(line, step->of.http);
        break;
    case LVT_STEP_PUBLISH:
    case LVT_STEP_PUBLISH_LATER:
        put_publish_json(line, step->of.publish);
        lvt_buffer_printf(line, ",\"after_commit\":%s",
                          step->kind == LVT_STEP_PUBLISH_LATER ? "true" : "false");
        break;
    case LVT_STEP_SLEEP:
        put_number(line, "ms", (long long)step->of.sleep_ms);
        break;
    case LVT_STEP_LOG:
        put_member(line, "level", lvt_bytes_of(levels[step->of.log.level]));
        put_member(line, "text", lvt_bytes_of(step->of.log.text));
        lvt_buffer_text(line, ",\"fields\":{");
        for (size_t i = 0; i < step->of.log.field_count; i++) {
            lvt_buffer_text(line, i > 0 ? "," : "");
            lvt_json_write_string(line, lvt_bytes_of(step->of.log.fields[i].key));
            lvt_buffer_char(line, ':');
            put_field(line, &step->of.log.fields[i], true);
        }
        lvt_buffer_char(line, '}');
        break;
    default:
        break;
    }
}

static void put_answer_json(struct lvt_buffer *line, const struct lvt_step_answer *answer) {
    if (answer->result != LVT_ANSWER_OK) {
        put_member(line, answer->result == LVT_ANSWER_OUTAGE ? "outage" : "error",
                   lvt_bytes_of(answer->error));
        return;
    }
    switch (answer->kind) {
    case LVT_STEP_SQL:
        put_number(line, "rows", (long long)answer->rows->row_count);
        put_number(line, "affected", answer->rows->affected);
        break;
    case LVT_STEP_REDIS:
        if (answer->reply->kind == LVT_REPLY_INTEGER)
            put_number(line, "reply", answer->reply->integer);
        else if (answer->reply->kind == LVT_REPLY_ARRAY)
            put_number(line, "count", (long long)answer->reply->count);
        else if (answer->reply->kind == LVT_REPLY_NIL)
            lvt_buffer_text(line, ",\"reply\":null");
        else
            put_member(line, "reply", answer->reply->text);
        break;
    case LVT_STEP_INVALIDATE:
        put_number(line, "removed", answer->removed);
        break;
    case LVT_STEP_HTTP:
        put_number(line, "status", answer->response->status);
        put_member(line, "body", answer->response->body);
        break;
    default:
        break;
    }
}

/* ---- the watcher ---- */

static void on_step(void *ctx, const struct lvt_step *step) {
    struct lvt_exec_printer *printer = ctx;
    struct lvt_buffer line;
    lvt_buffer_init(&line, LINE_MAX_BYTES);
    printer->steps = step->number;
    if (step->kind != LVT_STEP_LOG && step->kind != LVT_STEP_SLEEP)
        printer->asked = true;
    if (printer->json) {
        lvt_buffer_printf(&line, "{\"step\":%u,\"kind\":\"%s\"", step->number, kinds[step->kind]);
        put_step_json(&line, step);
        lvt_buffer_text(&line, "}\n");
    } else {
        char kind[16];
        snprintf(kind, sizeof kind, "%s%s%s", kinds[step->kind],
                 step->kind == LVT_STEP_LOG ? " " : "",
                 step->kind == LVT_STEP_LOG ? levels[step->of.log.level] : "");
        lvt_buffer_printf(&line, "%3u  %-11s ", step->number, kind);
        put_step(&line, step);
        while (line.len > 0 && line.data[line.len - 1] == ' ')
            lvt_buffer_truncate(&line, line.len - 1);
        lvt_buffer_char(&line, '\n');
    }
    put_line(&line);
}

static void on_answer(void *ctx, const struct lvt_step_answer *answer) {
    const struct lvt_exec_printer *printer = ctx;
    struct lvt_buffer line;
    lvt_buffer_init(&line, LINE_MAX_BYTES);
    if (printer->json) {
        lvt_buffer_printf(&line, "{\"answer\":%u,\"stand_in\":%s", answer->number,
                          printer->live ? "false" : "true");
        put_answer_json(&line, answer);
        lvt_buffer_text(&line, "}\n");
    } else {
        lvt_buffer_printf(&line, "%17s%s", "", printer->colours ? "\x1b[2m" : "");
        if (answer->number != printer->steps) /* others were asked for meanwhile */
            lvt_buffer_printf(&line, "%u ", answer->number);
        lvt_buffer_text(&line, "= ");
        if (put_answer(&line, answer))
            lvt_buffer_printf(&line, "%s%s\n", printer->live ? "" : "  (stand-in)",
                              printer->colours ? "\x1b[0m" : "");
        else
            lvt_buffer_clear(&line);
    }
    put_line(&line);
}

struct lvt_watcher lvt_exec_printer_watcher(struct lvt_exec_printer *printer) {
    return (struct lvt_watcher){printer, on_step, on_answer};
}

/* ---- the result ---- */

static const char *colour_of(const struct lvt_exec_result *result) {
    if (result->verdict == LVT_VERDICT_DONE || result->verdict == LVT_VERDICT_DROP)
        return "\x1b[32m";
    return result->verdict == LVT_VERDICT_SNOOZE ? "\x1b[33m" : "\x1b[31m";
}

static void put_ending(struct lvt_buffer *line, const struct lvt_exec_result *result) {
    if (result->reason[0]) {
        lvt_buffer_text(line, ": ");
        put_shown(line, lvt_bytes_of(result->reason));
    }
    if (result->verdict == LVT_VERDICT_RETRY && !result->dead)
        lvt_buffer_printf(line, " (attempt %u/%u after %llu ms)", result->attempt,
                          result->retries_max, (unsigned long long)result->delay_ms);
    if (result->verdict == LVT_VERDICT_RETRY && result->dead)
        lvt_buffer_printf(line, " (attempt %u was the last: to the dead letters)", result->attempt);
    if (result->verdict == LVT_VERDICT_REJECT)
        lvt_buffer_text(line, " (to the dead letters)");
    if (result->verdict == LVT_VERDICT_SNOOZE)
        lvt_buffer_printf(line, " (again after %llu ms)", (unsigned long long)result->delay_ms);
}

static void put_trace(struct lvt_buffer *line, const char *trace) {
    for (const char *at = trace; *at;) {
        size_t len = strcspn(at, "\n");
        lvt_buffer_text(line, "         ");
        put_shown(line, lvt_bytes(at, len));
        lvt_buffer_char(line, '\n');
        at += len + (at[len] == '\n');
    }
}

static void put_result_json(struct lvt_buffer *line, const struct lvt_exec_result *result) {
    lvt_buffer_printf(line, "{\"verdict\":\"%s\",\"dead\":%s", verdicts[result->verdict],
                      result->dead ? "true" : "false");
    put_number(line, "attempt", result->attempt);
    put_number(line, "retries_max", result->retries_max);
    put_number(line, "delay_ms", (long long)result->delay_ms);
    put_number(line, "duration_ms", (long long)result->duration_ms);
    put_member(line, "reason", lvt_bytes_of(result->reason));
    put_member(line, "trace", lvt_bytes_of(result->trace));
    put_member(line, "sqlstate", lvt_bytes_of(result->sqlstate));
    lvt_buffer_text(line, "}\n");
}

void lvt_exec_print_result(struct lvt_exec_printer *printer, const struct lvt_exec_result *result) {
    struct lvt_buffer line;
    lvt_buffer_init(&line, LINE_MAX_BYTES);
    if (printer->json) {
        put_result_json(&line, result);
    } else {
        lvt_buffer_printf(&line, "verdict  %s%s%s", printer->colours ? colour_of(result) : "",
                          verdicts[result->verdict], printer->colours ? "\x1b[0m" : "");
        put_ending(&line, result);
        lvt_buffer_char(&line, '\n');
        put_trace(&line, result->trace);
        if (!printer->live && printer->asked)
            lvt_buffer_text(&line,
                            "Nothing was performed: the answers are stand-ins. --live asks "
                            "the services.\n");
    }
    put_line(&line);
}
