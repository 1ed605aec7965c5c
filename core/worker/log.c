/* The log's way to the program that embeds the worker. */
#include "worker/log.h"

_Static_assert((int)LEVERET_LOG_DEBUG == LVT_DEBUG && (int)LEVERET_LOG_ERROR == LVT_ERROR,
               "levels cross as they are");

struct leveret_record {
    enum lvt_log_format format;
    enum lvt_level level;
    const char *text;
    const struct lvt_field *fields;
    size_t field_count;
    struct lvt_log_text *line; /* made when it is first asked for */
};

static void hand_over(void *ctx, enum lvt_level level, const char *text,
                      const struct lvt_field *fields, size_t field_count) {
    const struct lvt_program_log *program = ctx;
    struct lvt_log_text line;
    const struct leveret_record record = {program->format, level, text, fields, field_count, &line};
    line.len = 0;
    program->sink(program->ctx, &record);
}

struct lvt_log lvt_program_log_of(const struct lvt_program_log *program, int level) {
    return (struct lvt_log){program->sink ? hand_over : NULL, (void *)program,
                            (enum lvt_level)level};
}

int32_t leveret_record_level(const struct leveret_record *record) {
    return (int32_t)record->level;
}

const char *leveret_record_text(const struct leveret_record *record) {
    return record->text;
}

const char *leveret_record_line(const struct leveret_record *record) {
    const struct lvt_log_style style = {.format = record->format};
    if (record->line->len == 0)
        lvt_log_line(&style, record->level, record->text, record->fields, record->field_count,
                     record->line);
    return record->line->text;
}

size_t leveret_record_field_count(const struct leveret_record *record) {
    return record->field_count;
}

bool leveret_record_field(const struct leveret_record *record, size_t index,
                          struct leveret_field *ret_field) {
    if (index >= record->field_count)
        return false;
    const struct lvt_field *field = &record->fields[index];
    struct leveret_field copy = {.key = field->key};
    switch (field->kind) {
    case LVT_FIELD_TEXT:
    case LVT_FIELD_JSON:
        copy.kind = LEVERET_FIELD_TEXT;
        copy.text = (struct leveret_text){field->value.text.data, field->value.text.len};
        break;
    case LVT_FIELD_INTEGER:
        copy.kind = LEVERET_FIELD_INTEGER;
        copy.integer = field->value.integer;
        break;
    case LVT_FIELD_NUMBER:
        copy.kind = LEVERET_FIELD_NUMBER;
        copy.number = field->value.number;
        break;
    case LVT_FIELD_BOOLEAN:
        copy.kind = LEVERET_FIELD_BOOLEAN;
        copy.integer = field->value.boolean;
        break;
    }
    *ret_field = copy;
    return true;
}
