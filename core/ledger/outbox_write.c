/* ctx.publish inside a transaction: a row of the outbox. */
#include <inttypes.h>
#include <stdio.h>

#include "event/json.h"
#include "ledger/state.h"

#define HEADERS_MAX_BYTES (1u << 20)

static void write_value(struct lvt_buffer *out, const struct lvt_header *header) {
    switch (header->kind) {
    case LVT_HEADER_INT64:
        lvt_buffer_printf(out, "%" PRId64, header->value.integer);
        break;
    case LVT_HEADER_DOUBLE:
        if (!lvt_json_write_number(out, header->value.number))
            lvt_buffer_text(out, "null");
        break;
    case LVT_HEADER_BOOLEAN:
        lvt_buffer_text(out, header->value.boolean ? "true" : "false");
        break;
    default:
        lvt_json_write_string(out, header->value.bytes);
        break;
    }
}

static void write_member(struct lvt_buffer *out, const struct lvt_header *header) {
    lvt_buffer_char(out, out->len > 1 ? ',' : '{');
    lvt_json_write_string(out, header->name);
    lvt_buffer_char(out, ':');
    write_value(out, header);
}

static void write_text(struct lvt_buffer *out, const char *name, struct lvt_bytes text) {
    const struct lvt_header header = {
        .name = lvt_bytes_of(name), .kind = LVT_HEADER_STRING, .value.bytes = text};
    if (text.len > 0)
        write_member(out, &header);
}

static void write_headers(struct lvt_buffer *out, const struct lvt_outgoing *outgoing) {
    for (size_t i = 0; i < outgoing->header_count; i++)
        write_member(out, &outgoing->headers[i]);
    write_text(out, "traceparent", outgoing->traceparent);
    write_text(out, "tracestate", outgoing->tracestate);
    lvt_buffer_text(out, out->len > 0 ? "}" : "{}");
}

/* A number as text, and NULL for one that is not given. */
static struct lvt_bytes number(char text[24], int64_t value, int64_t none) {
    if (value == none)
        return lvt_bytes(NULL, 0);
    snprintf(text, 24, "%" PRId64, value);
    return lvt_bytes_of(text);
}

static struct lvt_bytes given(struct lvt_bytes text) {
    return text.len > 0 ? text : lvt_bytes(NULL, 0);
}

void lvt_outbox_write(void *self, struct lvt_tx *tx, const struct lvt_outgoing *outgoing,
                      lvt_rows_done *done, void *ctx) {
    char delay[24], ttl[24], priority[24], attempts[24];
    struct lvt_buffer headers;
    lvt_buffer_init(&headers, HEADERS_MAX_BYTES);
    write_headers(&headers, outgoing);
    const struct lvt_bytes params[] = {
        outgoing->event,
        outgoing->payload,
        outgoing->id,
        outgoing->exchange,
        given(outgoing->queue),
        number(delay, (int64_t)outgoing->delay_ms, -1),
        number(ttl, (int64_t)outgoing->ttl_ms, 0),
        number(priority, outgoing->priority, LVT_NO_PRIORITY),
        number(attempts, outgoing->max_attempts, 0),
        headers.failed ? lvt_bytes("too big", 7) : lvt_bytes(headers.data, headers.len),
    };
    const struct lvt_sql sql = {
        LVT_LITERAL("INSERT INTO outbox (event, payload, event_id, exchange, queue, delay_ms,"
                    " ttl_ms, priority, max_attempts, headers)"
                    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"),
        params, sizeof params / sizeof params[0]};
    tx->published = true;
    lvt_tx_query(self, tx, &sql, done, ctx);
    lvt_buffer_free(&headers);
}
