/* What happened, for people and machines. The library formats nothing and writes nowhere: it hands
 * records to the sink that its host gave it. A sink is called from every thread that logs. */
#ifndef LEVERET_BASE_LOG_H
#define LEVERET_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

enum lvt_level { LVT_DEBUG, LVT_INFO, LVT_WARN, LVT_ERROR };

enum lvt_field_kind {
    LVT_FIELD_TEXT,
    LVT_FIELD_INTEGER,
    LVT_FIELD_NUMBER,
    LVT_FIELD_BOOLEAN,
    LVT_FIELD_JSON, /* text that is valid JSON already */
};

struct lvt_field {
    const char *key;
    enum lvt_field_kind kind;
    union {
        struct lvt_bytes text; /* TEXT and JSON */
        int64_t integer;
        double number;
        bool boolean;
    } value;
};

#define LVT_TEXT(k, b) ((struct lvt_field){.key = (k), .kind = LVT_FIELD_TEXT, .value.text = (b)})
#define LVT_STRING(k, s) LVT_TEXT(k, lvt_bytes_of(s))
#define LVT_INTEGER(k, i)                                                                          \
    ((struct lvt_field){.key = (k), .kind = LVT_FIELD_INTEGER, .value.integer = (i)})
#define LVT_NUMBER(k, d)                                                                           \
    ((struct lvt_field){.key = (k), .kind = LVT_FIELD_NUMBER, .value.number = (d)})

struct lvt_log {
    void (*sink)(void *ctx, enum lvt_level level, const char *text, const struct lvt_field *fields,
                 size_t field_count);
    void *ctx;
    enum lvt_level level; /* records below it are not made */
};

void lvt_log(const struct lvt_log *log, enum lvt_level level, const char *text,
             const struct lvt_field *fields, size_t field_count);

/* Without fields; the text is cut at 1 KiB. */
void lvt_logf(const struct lvt_log *log, enum lvt_level level, const char *format, ...)
    LVT_PRINTF(3, 4);

#define LVT_LOG(to, at, text, ...)                                                                 \
    do {                                                                                           \
        if ((at) >= (to)->level) {                                                                 \
            const struct lvt_field lvt_fields_[] = {__VA_ARGS__};                                  \
            lvt_log((to), (at), (text), lvt_fields_, sizeof lvt_fields_ / sizeof lvt_fields_[0]);  \
        }                                                                                          \
    } while (0)

#endif
