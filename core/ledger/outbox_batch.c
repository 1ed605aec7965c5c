#include "ledger/outbox_batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "event/envelope.h"
#include "event/json.h"

enum column {
    COLUMN_ID,
    COLUMN_EVENT,
    COLUMN_PAYLOAD,
    COLUMN_EVENT_ID,
    COLUMN_KEY,
    COLUMN_EXCHANGE,
    COLUMN_QUEUE,
    COLUMN_DELAY,
    COLUMN_TTL,
    COLUMN_PRIORITY,
    COLUMN_MAX_ATTEMPTS,
    COLUMN_HEADERS,
    COLUMN_WHOLE,
};

struct lvt_outbox_batch {
    PGresult *result; /* which the rows point into */
    struct lvt_arena arena;
    struct lvt_outbox_row *rows;
    size_t open;
};

/* ---- marks ---- */

static void init_list(struct lvt_outbox_list *list) {
    lvt_pg_array_init(&list->ids, LVT_PG_INT8);
    lvt_pg_array_init(&list->reasons, LVT_PG_TEXT);
    lvt_pg_array_begin(&list->ids);
    lvt_pg_array_begin(&list->reasons);
}

static void free_list(struct lvt_outbox_list *list) {
    lvt_pg_array_free(&list->ids);
    lvt_pg_array_free(&list->reasons);
}

static void clear_list(struct lvt_outbox_list *list) {
    lvt_pg_array_begin(&list->ids);
    lvt_pg_array_begin(&list->reasons);
}

static void add(struct lvt_outbox_list *list, int64_t number, const char *reason) {
    if (list->ids.count == 0) {
        list->first = number;
        snprintf(list->first_reason, sizeof list->first_reason, "%s", reason);
    }
    lvt_pg_array_int8(&list->ids, number);
    lvt_pg_array_text(&list->reasons, lvt_bytes_of(reason));
}

void lvt_outbox_marks_init(struct lvt_outbox_marks *marks) {
    init_list(&marks->sent);
    init_list(&marks->later);
    init_list(&marks->wrong);
}

void lvt_outbox_marks_free(struct lvt_outbox_marks *marks) {
    free_list(&marks->sent);
    free_list(&marks->later);
    free_list(&marks->wrong);
}

void lvt_outbox_marks_clear(struct lvt_outbox_marks *marks) {
    clear_list(&marks->sent);
    clear_list(&marks->later);
    clear_list(&marks->wrong);
}

uint32_t lvt_outbox_marks_count(const struct lvt_outbox_marks *marks) {
    return marks->sent.ids.count + marks->later.ids.count + marks->wrong.ids.count;
}

/* ---- rows ---- */

struct lvt_outbox_batch *lvt_outbox_batch_new(PGresult *result) {
    struct lvt_outbox_batch *batch = calloc(1, sizeof *batch);
    if (!batch) {
        PQclear(result);
        return NULL;
    }
    batch->result = result;
    lvt_arena_init(&batch->arena, 65536);
    batch->rows = calloc((size_t)PQntuples(result), sizeof *batch->rows);
    if (!batch->rows) {
        lvt_outbox_batch_free(batch);
        return NULL;
    }
    return batch;
}

void lvt_outbox_batch_free(struct lvt_outbox_batch *batch) {
    if (!batch)
        return;
    PQclear(batch->result);
    lvt_arena_free(&batch->arena);
    free(batch->rows);
    free(batch);
}

/* data is NULL for SQL's NULL. */
static struct lvt_bytes text_at(const PGresult *result, int row, enum column column) {
    if (PQgetisnull(result, row, column))
        return lvt_bytes(NULL, 0);
    return lvt_bytes(PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column));
}

/* What is not given is `none`. False for a number below the least. */
static bool number_at(const PGresult *result, int row, enum column column, int64_t least,
                      int64_t none, int64_t *ret) {
    *ret = none;
    if (PQgetisnull(result, row, column))
        return true;
    *ret = strtoll(PQgetvalue(result, row, column), NULL, 10);
    return *ret >= least;
}

static void read_value(struct lvt_json_reader *reader, enum lvt_json_token token,
                       struct lvt_arena *arena, struct lvt_header *header) {
    header->kind = LVT_HEADER_VOID; /* which the engine's check refuses */
    if (token == LVT_JSON_TRUE || token == LVT_JSON_FALSE) {
        header->kind = LVT_HEADER_BOOLEAN;
        header->value.boolean = token == LVT_JSON_TRUE;
    } else if (token == LVT_JSON_NUMBER) {
        bool whole = lvt_json_integer(reader->raw, &header->value.integer);
        header->kind = whole ? LVT_HEADER_INT64 : LVT_HEADER_DOUBLE;
        if (!whole)
            header->value.number = strtod(reader->raw.data, NULL); /* which ends it at a , or } */
    } else if (token == LVT_JSON_STRING) {
        char *text = lvt_arena_alloc(arena, reader->raw.len + 1);
        header->kind = LVT_HEADER_STRING;
        header->value.bytes =
            text ? lvt_bytes(text, lvt_json_unescape(reader->raw, text)) : lvt_bytes("", 0);
    } else {
        lvt_json_skip(reader, token);
    }
}

/* NULL, or what is wrong. */
static const char *read_headers(struct lvt_bytes json, struct lvt_arena *arena,
                                struct lvt_outgoing *outgoing) {
    struct lvt_header *headers =
        lvt_arena_zalloc(arena, LVT_OUTGOING_HEADERS_MAX * sizeof *headers);
    struct lvt_json_reader reader;
    size_t count = 0;
    if (!headers)
        return "out of memory";
    if (lvt_json_validate(json, LVT_NESTING_MAX, NULL) != LEVERET_OK)
        return "headers are not JSON";
    lvt_json_reader_init(&reader, json);
    if (lvt_json_next(&reader) != LVT_JSON_OBJECT)
        return "headers are not a JSON object";
    while (lvt_json_next(&reader) == LVT_JSON_KEY) {
        if (count == LVT_OUTGOING_HEADERS_MAX)
            return "there are too many headers";
        struct lvt_header *header = &headers[count++];
        char *name = lvt_arena_alloc(arena, reader.raw.len + 1);
        if (!name)
            return "out of memory";
        header->name = lvt_bytes(name, lvt_json_unescape(reader.raw, name));
        read_value(&reader, lvt_json_next(&reader), arena, header);
    }
    outgoing->headers = headers;
    outgoing->header_count = count;
    return NULL;
}

/* NULL, or what is wrong with the row beyond what the engine checks. */
static const char *read_row(struct lvt_outbox_batch *batch, int at, struct lvt_outbox_row *row) {
    const PGresult *result = batch->result;
    int64_t delay_ms, ttl_ms, priority, max_attempts;
    *row = (struct lvt_outbox_row){
        .number = strtoll(PQgetvalue(result, at, COLUMN_ID), NULL, 10),
        .key = text_at(result, at, COLUMN_KEY),
        .arena = &batch->arena,
        .outgoing = {.event = text_at(result, at, COLUMN_EVENT),
                     .payload = text_at(result, at, COLUMN_PAYLOAD),
                     .whole = *PQgetvalue(result, at, COLUMN_WHOLE) == 't',
                     .id = text_at(result, at, COLUMN_EVENT_ID),
                     .exchange = text_at(result, at, COLUMN_EXCHANGE),
                     .queue = text_at(result, at, COLUMN_QUEUE)},
    };
    if (row->outgoing.id.len == 0)
        return "event_id is empty";
    if (!row->outgoing.payload.data)
        return "the payload alone is longer than max_body_bytes";
    if (!number_at(result, at, COLUMN_DELAY, 0, 0, &delay_ms))
        return "delay_ms is negative";
    if (!number_at(result, at, COLUMN_TTL, 1, 0, &ttl_ms))
        return "ttl_ms is not positive";
    if (!number_at(result, at, COLUMN_PRIORITY, 0, LVT_NO_PRIORITY, &priority))
        return "priority is negative";
    if (!number_at(result, at, COLUMN_MAX_ATTEMPTS, 1, 0, &max_attempts))
        return "max_attempts is not positive";
    row->outgoing.delay_ms = (uint64_t)delay_ms;
    row->outgoing.ttl_ms = (uint64_t)ttl_ms;
    row->outgoing.priority = (int)priority;
    row->outgoing.max_attempts = (uint32_t)max_attempts;
    struct lvt_bytes headers = text_at(result, at, COLUMN_HEADERS);
    if (!headers.data)
        return "headers are longer than 1 MiB";
    if (lvt_bytes_is(headers, "{}"))
        return NULL;
    return read_headers(headers, &batch->arena, &row->outgoing);
}

struct lvt_outbox_row *lvt_outbox_batch_rows(struct lvt_outbox_batch *batch,
                                             struct lvt_outbox_marks *marks) {
    struct lvt_outbox_row *first = NULL, **last = &first;
    for (int i = 0; i < PQntuples(batch->result); i++) {
        struct lvt_outbox_row *row = &batch->rows[i];
        const char *wrong = read_row(batch, i, row);
        if (wrong) {
            add(&marks->wrong, row->number, wrong);
            continue;
        }
        *last = row;
        last = &row->next;
        batch->open++;
    }
    return first;
}

void lvt_outbox_batch_close(struct lvt_outbox_batch *batch, const struct lvt_outbox_row *row,
                            struct lvt_outbox_marks *marks) {
    batch->open--;
    if (row->result == LVT_OUTBOX_SENT)
        add(&marks->sent, row->number, "");
    else if (row->result == LVT_OUTBOX_LATER)
        add(&marks->later, row->number, row->reason);
    else if (row->result == LVT_OUTBOX_WRONG)
        add(&marks->wrong, row->number, row->reason);
}

size_t lvt_outbox_batch_open(const struct lvt_outbox_batch *batch) {
    return batch->open;
}
