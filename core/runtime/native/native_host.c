/* The table of functions that a plugin gets, and the small ones of them. */
#include "runtime/native/native_header.h"
#include "runtime/native/native_json.h"
#include "runtime/native/native_state.h"

#define FIELDS_MAX 32

/* ---- events ---- */

static const struct leveret_event_info *info(struct leveret_event event) {
    const struct lvt_native_slot *slot = lvt_native_slot_of(event);
    return slot ? &slot->info : NULL;
}

static bool header(struct leveret_event event, const char *name,
                   struct leveret_header *ret_header) {
    const struct lvt_native_slot *slot = lvt_native_slot_of(event);
    const struct lvt_header *found =
        slot ? lvt_headers_find(&slot->delivery->properties.headers, name) : NULL;
    if (found)
        lvt_native_header_read(found, ret_header);
    return found != NULL;
}

static bool header_at(struct leveret_event event, size_t index, struct leveret_header *ret_header) {
    const struct lvt_native_slot *slot = lvt_native_slot_of(event);
    if (!slot || index >= slot->delivery->properties.headers.count)
        return false;
    lvt_native_header_read(&slot->delivery->properties.headers.items[index], ret_header);
    return true;
}

/* ---- the log ---- */

void lvt_native_log(struct lvt_native *native, const struct lvt_native_slot *slot,
                    enum lvt_level level, const char *text, const struct lvt_field *fields,
                    size_t field_count) {
    struct lvt_field all[FIELDS_MAX + 4];
    size_t count = 0;
    for (size_t i = 0; i < field_count && count < FIELDS_MAX; i++)
        all[count++] = fields[i];
    if (slot) {
        const struct leveret_event_info *of = &slot->info;
        all[count++] = LVT_TEXT("event", lvt_bytes(of->type.data, of->type.len));
        if (of->id.len > 0)
            all[count++] = LVT_TEXT("id", lvt_bytes(of->id.data, of->id.len));
    }
    pthread_mutex_lock(&native->log_lock);
    if (native->log) {
        all[count++] = LVT_STRING("handler", native->name);
        all[count++] = LVT_STRING("version", native->version);
        lvt_log(native->log, level, text, all, count);
    }
    pthread_mutex_unlock(&native->log_lock);
}

static struct lvt_field read_field(const struct leveret_field *field) {
    struct lvt_field read = {.key = field->key};
    switch (field->kind) {
    case LEVERET_FIELD_INTEGER:
        read.kind = LVT_FIELD_INTEGER;
        read.value.integer = field->integer;
        break;
    case LEVERET_FIELD_NUMBER:
        read.kind = LVT_FIELD_NUMBER;
        read.value.number = field->number;
        break;
    case LEVERET_FIELD_BOOLEAN:
        read.kind = LVT_FIELD_BOOLEAN;
        read.value.boolean = field->integer != 0;
        break;
    default:
        read.kind = LVT_FIELD_TEXT;
        read.value.text = lvt_bytes(field->text.data, field->text.len);
        break;
    }
    return read;
}

static void write_line(struct lvt_native *native, const struct lvt_native_slot *slot, int32_t level,
                       const char *text, const struct leveret_field *fields, size_t field_count) {
    static const enum lvt_level levels[] = {
        [LEVERET_LOG_DEBUG] = LVT_DEBUG,
        [LEVERET_LOG_INFO] = LVT_INFO,
        [LEVERET_LOG_WARN] = LVT_WARN,
        [LEVERET_LOG_ERROR] = LVT_ERROR,
    };
    struct lvt_field read[FIELDS_MAX];
    size_t count = 0;
    for (; count < field_count && count < FIELDS_MAX; count++)
        read[count] = read_field(&fields[count]);
    bool known = level >= LEVERET_LOG_DEBUG && level <= LEVERET_LOG_ERROR;
    lvt_native_log(native, slot, known ? levels[level] : LVT_ERROR, text ? text : "", read, count);
}

static void log_line(struct leveret_handler *handler, int32_t level, const char *text,
                     const struct leveret_field *fields, size_t field_count) {
    if (handler)
        write_line((struct lvt_native *)handler, NULL, level, text, fields, field_count);
}

static void log_event_line(struct leveret_event event, int32_t level, const char *text,
                           const struct leveret_field *fields, size_t field_count) {
    const struct lvt_native_slot *slot = lvt_native_slot_of(event);
    if (slot)
        write_line(slot->native, slot, level, text, fields, field_count);
}

/* ---- the table ---- */

const struct leveret_host lvt_native_host = {
    .size = sizeof lvt_native_host,
    .major = LEVERET_PLUGIN_MAJOR,
    .minor = LEVERET_PLUGIN_MINOR,
    .version = LEVERET_VERSION,
    .info = info,
    .header = header,
    .header_at = header_at,
    .finish = lvt_native_finish,
    .log = log_line,
    .event_log = log_event_line,
    .json_valid = lvt_native_json_valid,
    .json_at = lvt_native_json_at,
    .json_string = lvt_native_json_string,
    .json_integer = lvt_native_json_integer,
    .json_number = lvt_native_json_number,
    .json_boolean = lvt_native_json_boolean,
    .json_count = lvt_native_json_count,
    .json_member = lvt_native_json_member,
    .json_quote = lvt_native_json_quote,
    .query = lvt_native_query,
    .redis = lvt_native_redis,
    .invalidate = lvt_native_invalidate,
    .http = lvt_native_http,
    .sleep = lvt_native_sleep,
    .publish = lvt_native_publish,
};
