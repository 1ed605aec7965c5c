#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/utf8.h"

void lvt_log(const struct lvt_log *log, enum lvt_level level, const char *text,
             const struct lvt_field *fields, size_t field_count) {
    if (log->sink && level >= log->level) {
        log->sink(log->ctx, level, text, fields, field_count);
    }
}

void lvt_logf(const struct lvt_log *log, enum lvt_level level, const char *format, ...) {
    if (!log->sink || level < log->level) {
        return;
    }
    char text[1024];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len < 0) {
        return;
    }
    if ((size_t)len >= sizeof text) {
        text[lvt_utf8_cut(text, sizeof text - 1)] = '\0';
    }
    log->sink(log->ctx, level, text, NULL, 0);
}
