/* Which envelope a body is in is told by its top-level members:
 *
 *     specversion        CloudEvents, structured (binary: by the message's headers)
 *     event              {event, payload}
 *     item, no payload   {type, item, timestamp}
 *     type               {id, type, payload, max_attempts, delay, priority, created_at}
 *
 * JSON allows an object to repeat a key: the first one counts, here and in lvt_json_scalar_at. */
#include "event/envelope.h"

#include "base/utf8.h"
#include "event/json.h"

#define TYPE_MAX 255 /* a routing key holds no more */

enum member {
    M_EVENT,
    M_TYPE,
    M_PAYLOAD,
    M_ITEM,
    M_DATA,
    M_DATA_BASE64,
    M_ID,
    M_TIME,
    M_TIMESTAMP,
    M_CREATED_AT,
    M_SPECVERSION,
    M_MAX_ATTEMPTS,
    M_DELAY,
    M_PRIORITY,
    MEMBER_COUNT
};

static const struct lvt_bytes member_names[MEMBER_COUNT] = {
    [M_EVENT] = {"event", 5},
    [M_TYPE] = {"type", 4},
    [M_PAYLOAD] = {"payload", 7},
    [M_ITEM] = {"item", 4},
    [M_DATA] = {"data", 4},
    [M_DATA_BASE64] = {"data_base64", 11},
    [M_ID] = {"id", 2},
    [M_TIME] = {"time", 4},
    [M_TIMESTAMP] = {"timestamp", 9},
    [M_CREATED_AT] = {"created_at", 10},
    [M_SPECVERSION] = {"specversion", 11},
    [M_MAX_ATTEMPTS] = {"max_attempts", 12},
    [M_DELAY] = {"delay", 5},
    [M_PRIORITY] = {"priority", 8},
};

struct value {
    enum lvt_json_token token; /* LVT_JSON_END: there is none */
    bool escaped;
    struct lvt_bytes raw;   /* of a string what is between the quotes */
    struct lvt_bytes whole; /* its JSON text */
};

static enum leveret_code out_of_memory(struct leveret_error *err) {
    return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory while reading an envelope");
}

static bool key_is(const struct lvt_json_reader *reader, struct lvt_bytes name) {
    char plain[128];
    if (!reader->escaped) {
        return lvt_bytes_equal(reader->raw, name);
    }
    /* Longer than this no known name gets, each of its characters escaped. */
    return reader->raw.len <= sizeof plain &&
           lvt_bytes_equal(lvt_bytes(plain, lvt_json_unescape(reader->raw, plain)), name);
}

static struct value read_value(struct lvt_json_reader *reader) {
    enum lvt_json_token token = lvt_json_next(reader);
    struct value value = {.token = token, .escaped = reader->escaped, .raw = reader->raw};
    value.whole = lvt_json_skip(reader, token);
    return value;
}

/* The reader stands behind the '{'. */
static void read_members(struct lvt_json_reader *reader, struct value values[MEMBER_COUNT]) {
    while (lvt_json_next(reader) == LVT_JSON_KEY) {
        int member = 0;
        while (member < MEMBER_COUNT && !key_is(reader, member_names[member])) {
            member++;
        }
        struct value value = read_value(reader);
        if (member < MEMBER_COUNT && values[member].token == LVT_JSON_END) {
            values[member] = value;
        }
    }
}

static bool given(const struct value *value) {
    return value->token != LVT_JSON_END && value->token != LVT_JSON_NULL;
}

/* A string with its escapes resolved, or a number's spelling. False when out of memory. */
static bool value_text(const struct value *value, struct lvt_arena *arena,
                       struct lvt_bytes *ret_text) {
    if (!value->escaped) {
        *ret_text = value->raw;
        return true;
    }
    char *text = lvt_arena_alloc(arena, value->raw.len);
    if (!text) {
        return false;
    }
    *ret_text = lvt_bytes(text, lvt_json_unescape(value->raw, text));
    return true;
}

enum leveret_code lvt_envelope_check_type(struct lvt_bytes type, struct leveret_error *err) {
    if (type.len == 0) {
        return leveret_fail(err, LEVERET_MALFORMED, "the type is an empty text");
    }
    if (type.len > TYPE_MAX) {
        return leveret_fail(err, LEVERET_MALFORMED, "the type is longer than %d bytes", TYPE_MAX);
    }
    for (size_t at = 0, len; at < type.len; at += len) {
        len = lvt_utf8_length(type.data + at, type.len - at);
        if (len == 0) {
            return leveret_fail(err, LEVERET_MALFORMED, "the type is not valid UTF-8");
        }
        if (lvt_utf8_is_control(type.data + at, len)) {
            return leveret_fail(err, LEVERET_MALFORMED, "the type has a control character");
        }
    }
    return LEVERET_OK;
}

/* No NUL: PostgreSQL has no text with one, and the id goes into the ledger. */
enum leveret_code lvt_envelope_check_id(struct lvt_bytes id, struct leveret_error *err) {
    if (id.len > 0 && memchr(id.data, '\0', id.len)) {
        return leveret_fail(err, LEVERET_MALFORMED, "the id has a NUL character");
    }
    for (size_t at = 0, len; at < id.len; at += len) {
        len = lvt_utf8_length(id.data + at, id.len - at);
        if (len == 0) {
            return leveret_fail(err, LEVERET_MALFORMED, "the id is not valid UTF-8");
        }
    }
    return LEVERET_OK;
}

static enum leveret_code read_type(const struct value *value, struct lvt_arena *arena,
                                   struct lvt_bytes *ret_type, struct leveret_error *err) {
    struct lvt_bytes type;
    if (value->token != LVT_JSON_STRING) {
        return leveret_fail(err, LEVERET_MALFORMED, "the type is not a text");
    }
    /* Before the escapes, so that a giant is not copied. */
    if (value->raw.len > TYPE_MAX * 6) {
        return leveret_fail(err, LEVERET_MALFORMED, "the type is longer than %d bytes", TYPE_MAX);
    }
    if (!value_text(value, arena, &type)) {
        return out_of_memory(err);
    }
    enum leveret_code code = lvt_envelope_check_type(type, err);
    if (code == LEVERET_OK) {
        *ret_type = type;
    }
    return code;
}

static enum leveret_code read_id(const struct value *value, struct lvt_arena *arena,
                                 struct lvt_bytes *ret_id, struct leveret_error *err) {
    struct lvt_bytes id;
    if (!given(value)) {
        return LEVERET_OK;
    }
    if (value->token != LVT_JSON_STRING && value->token != LVT_JSON_NUMBER) {
        return leveret_fail(err, LEVERET_MALFORMED, "the id is neither a text nor a number");
    }
    if (!value_text(value, arena, &id)) {
        return out_of_memory(err);
    }
    enum leveret_code code = lvt_envelope_check_id(id, err);
    if (code == LEVERET_OK) {
        *ret_id = id;
    }
    return code;
}

static enum leveret_code read_count(const struct value *value, const char *name, int64_t *ret_count,
                                    struct leveret_error *err) {
    int64_t count;
    if (!given(value)) {
        return LEVERET_OK;
    }
    if (value->token != LVT_JSON_NUMBER || !lvt_json_integer(value->raw, &count) || count < 0 ||
        count > INT32_MAX) {
        return leveret_fail(err, LEVERET_MALFORMED, "%s is not a whole number from 0 to %d", name,
                            INT32_MAX);
    }
    *ret_count = count;
    return LEVERET_OK;
}

/* ---- CloudEvents in the message's headers ---- */

/* The attribute's name when the header is one of CloudEvents', else empty. */
static struct lvt_bytes attribute(const struct lvt_header *header) {
    static const struct lvt_bytes prefixes[] = {
        {"cloudEvents:", 12}, {"cloudEvents_", 12}, {"ce-", 3}, {"ce_", 3}};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t len = prefixes[i].len;
        if (header->name.len > len && memcmp(header->name.data, prefixes[i].data, len) == 0) {
            return lvt_bytes(header->name.data + len, header->name.len - len);
        }
    }
    return lvt_bytes(NULL, 0);
}

struct attributes {
    struct lvt_bytes specversion, type, id, time;
};

static struct attributes read_attributes(const struct lvt_headers *headers) {
    struct attributes found = {0};
    struct {
        const char *name;
        struct lvt_bytes *text;
    } known[] = {{"specversion", &found.specversion},
                 {"type", &found.type},
                 {"id", &found.id},
                 {"time", &found.time}};
    for (size_t i = 0; i < headers->count; i++) {
        const struct lvt_header *header = &headers->items[i];
        struct lvt_bytes name = attribute(header);
        if (name.len == 0 ||
            (header->kind != LVT_HEADER_STRING && header->kind != LVT_HEADER_BYTES)) {
            continue;
        }
        for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
            if (known[k].text->len == 0 && lvt_bytes_is(name, known[k].name)) {
                *known[k].text = header->value.bytes;
            }
        }
    }
    return found;
}

static enum leveret_code use_attributes(const struct attributes *attributes, struct lvt_bytes body,
                                        struct lvt_envelope *envelope, struct leveret_error *err) {
    enum leveret_code code = lvt_envelope_check_type(attributes->type, err);
    if (code == LEVERET_OK) {
        code = lvt_envelope_check_id(attributes->id, err);
    }
    envelope->type = attributes->type;
    envelope->id = attributes->id;
    envelope->time = attributes->time;
    if (body.len > 0) {
        envelope->payload = body;
    }
    return code;
}

/* ---- the body ---- */

static enum leveret_code check_body(struct lvt_bytes body, struct leveret_error *err) {
    struct leveret_error cause;
    if (body.len == 0) {
        return leveret_fail(err, LEVERET_MALFORMED, "the body is empty");
    }
    switch (lvt_json_validate(body, LVT_NESTING_MAX, &cause)) {
    case LEVERET_OK:
        return LEVERET_OK;
    case LEVERET_TOO_BIG:
        return leveret_fail(err, LEVERET_MALFORMED, "the body is %s", cause.text);
    default:
        return leveret_fail(err, LEVERET_MALFORMED, "the body is not JSON: %s", cause.text);
    }
}

/* Which envelope these members make, of those that `wanted` accepts; AUTO when none. */
static enum lvt_envelope_kind detect(const struct value values[], enum lvt_envelope_kind wanted) {
    bool has_type = values[M_TYPE].token != LVT_JSON_END;
    switch (wanted) {
    case LVT_ENVELOPE_EVENT:
        return values[M_EVENT].token != LVT_JSON_END ? wanted : LVT_ENVELOPE_AUTO;
    case LVT_ENVELOPE_CLOUDEVENTS:
        return given(&values[M_SPECVERSION]) && has_type ? wanted : LVT_ENVELOPE_AUTO;
    case LVT_ENVELOPE_ITEM:
    case LVT_ENVELOPE_MESSAGE:
        return has_type ? wanted : LVT_ENVELOPE_AUTO;
    case LVT_ENVELOPE_AUTO:
        break;
    }
    if (given(&values[M_SPECVERSION]) && has_type) {
        return LVT_ENVELOPE_CLOUDEVENTS;
    }
    if (values[M_EVENT].token != LVT_JSON_END) {
        return LVT_ENVELOPE_EVENT;
    }
    if (!has_type) {
        return LVT_ENVELOPE_AUTO;
    }
    bool item = values[M_ITEM].token != LVT_JSON_END && values[M_PAYLOAD].token == LVT_JSON_END;
    return item ? LVT_ENVELOPE_ITEM : LVT_ENVELOPE_MESSAGE;
}

static enum leveret_code fail_untyped(enum lvt_envelope_kind wanted, struct leveret_error *err) {
    const char *expected = "a member \"type\"";
    if (wanted == LVT_ENVELOPE_AUTO) {
        expected = "a member \"event\" or \"type\"";
    } else if (wanted == LVT_ENVELOPE_EVENT) {
        expected = "a member \"event\"";
    } else if (wanted == LVT_ENVELOPE_CLOUDEVENTS) {
        expected = "CloudEvents' specversion and type, in the headers or in the body";
    }
    return leveret_fail(err, LEVERET_MALFORMED, "the envelope names no event type: expected %s",
                        expected);
}

static enum leveret_code read_schedule(const struct value values[], struct lvt_envelope *envelope,
                                       struct leveret_error *err) {
    enum leveret_code code =
        read_count(&values[M_MAX_ATTEMPTS], "max_attempts", &envelope->max_attempts, err);
    if (code == LEVERET_OK) {
        code = read_count(&values[M_DELAY], "delay", &envelope->delay_s, err);
    }
    if (code == LEVERET_OK) {
        code = read_count(&values[M_PRIORITY], "priority", &envelope->priority, err);
    }
    /* A Go program sends 0 for a number that it never set; no attempt at all is never meant. */
    if (envelope->max_attempts == 0) {
        envelope->max_attempts = -1;
    }
    return code;
}

static enum leveret_code use_members(const struct value values[], enum lvt_envelope_kind kind,
                                     struct lvt_arena *arena, struct lvt_envelope *envelope,
                                     struct leveret_error *err) {
    enum member type = M_TYPE, payload = M_PAYLOAD, time = M_TIMESTAMP;
    if (kind == LVT_ENVELOPE_EVENT) {
        type = M_EVENT;
    } else if (kind == LVT_ENVELOPE_ITEM) {
        payload = M_ITEM;
    } else if (kind == LVT_ENVELOPE_MESSAGE) {
        time = M_CREATED_AT;
    } else {
        /* Binary data stays the base64 text that it is. */
        payload = values[M_DATA].token != LVT_JSON_END ? M_DATA : M_DATA_BASE64;
        time = M_TIME;
    }
    enum leveret_code code = read_type(&values[type], arena, &envelope->type, err);
    if (code == LEVERET_OK) {
        code = read_id(&values[M_ID], arena, &envelope->id, err);
    }
    if (code == LEVERET_OK && kind == LVT_ENVELOPE_MESSAGE) {
        code = read_schedule(values, envelope, err);
    }
    if (code != LEVERET_OK) {
        return code;
    }
    if (values[payload].token != LVT_JSON_END) {
        envelope->payload = values[payload].whole;
    }
    bool readable = values[time].token == LVT_JSON_STRING || values[time].token == LVT_JSON_NUMBER;
    if (readable && !value_text(&values[time], arena, &envelope->time)) {
        return out_of_memory(err);
    }
    return LEVERET_OK;
}

static const char *kind_of_value(enum lvt_json_token token) {
    switch (token) {
    case LVT_JSON_ARRAY:
        return "an array";
    case LVT_JSON_STRING:
        return "a text";
    case LVT_JSON_NUMBER:
        return "a number";
    case LVT_JSON_NULL:
        return "null";
    default:
        return "a boolean";
    }
}

enum leveret_code lvt_envelope_read(struct lvt_delivery *delivery, enum lvt_envelope_kind kind,
                                    struct lvt_envelope *ret_envelope, struct leveret_error *err) {
    struct lvt_envelope envelope = {
        .payload = LVT_LITERAL("null"), .max_attempts = -1, .delay_s = -1, .priority = -1};
    struct attributes attributes = {0};
    if (kind == LVT_ENVELOPE_AUTO || kind == LVT_ENVELOPE_CLOUDEVENTS) {
        attributes = read_attributes(&delivery->properties.headers);
    }
    bool binary = attributes.specversion.len > 0 && attributes.type.len > 0;

    enum leveret_code code = LEVERET_OK;
    if (!binary || delivery->body.len > 0) {
        code = check_body(delivery->body, err);
    }
    if (code != LEVERET_OK) {
        return code;
    }
    if (binary) {
        code = use_attributes(&attributes, delivery->body, &envelope, err);
    } else {
        struct lvt_json_reader reader;
        struct value values[MEMBER_COUNT] = {0};
        lvt_json_reader_init(&reader, delivery->body);
        enum lvt_json_token first = lvt_json_next(&reader);
        if (first != LVT_JSON_OBJECT) {
            return leveret_fail(err, LEVERET_MALFORMED, "the body is not an object but %s",
                                kind_of_value(first));
        }
        read_members(&reader, values);
        enum lvt_envelope_kind found = detect(values, kind);
        if (found == LVT_ENVELOPE_AUTO) {
            return fail_untyped(kind, err);
        }
        code = use_members(values, found, &delivery->arena, &envelope, err);
    }
    if (code == LEVERET_OK) {
        *ret_envelope = envelope;
    }
    return code;
}

bool lvt_json_scalar_at(struct lvt_bytes body, const char *path, struct lvt_arena *arena,
                        struct lvt_bytes *ret_text) {
    struct lvt_json_reader reader;
    lvt_json_reader_init(&reader, body);
    for (;;) {
        size_t len = strcspn(path, ".");
        if (lvt_json_next(&reader) != LVT_JSON_OBJECT) {
            return false;
        }
        enum lvt_json_token token;
        while ((token = lvt_json_next(&reader)) == LVT_JSON_KEY &&
               !key_is(&reader, lvt_bytes(path, len))) {
            lvt_json_skip(&reader, lvt_json_next(&reader));
        }
        if (token != LVT_JSON_KEY) {
            return false;
        }
        if (path[len] == '\0') {
            break;
        }
        path += len + 1;
    }
    struct value value = read_value(&reader);
    switch (value.token) {
    case LVT_JSON_STRING:
    case LVT_JSON_NUMBER:
    case LVT_JSON_TRUE:
    case LVT_JSON_FALSE:
        return value_text(&value, arena, ret_text);
    default:
        return false;
    }
}
