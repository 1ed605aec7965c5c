#include "ledger/rows.h"

#include <stdlib.h>
#include <string.h>

struct cell {
    uint32_t at;
    int32_t len; /* -1: NULL */
};

void lvt_row_store_init(struct lvt_row_store *store) {
    *store = (struct lvt_row_store){0};
    lvt_buffer_init(&store->text, LVT_ROWS_MAX_BYTES);
    lvt_buffer_init(&store->cells, LVT_ROWS_MAX_BYTES);
}

void lvt_row_store_free(struct lvt_row_store *store) {
    lvt_buffer_free(&store->text);
    lvt_buffer_free(&store->cells);
}

bool lvt_row_store_add(struct lvt_row_store *store, const PGresult *row) {
    for (int i = 0; i < PQnfields(row); i++) {
        struct cell one = {(uint32_t)store->text.len, -1};
        if (!PQgetisnull(row, 0, i)) {
            one.len = PQgetlength(row, 0, i);
            lvt_buffer_append(&store->text, PQgetvalue(row, 0, i), (size_t)one.len);
        }
        lvt_buffer_append(&store->cells, &one, sizeof one);
    }
    store->row_count++;
    return !store->text.failed && !store->cells.failed;
}

/* Types as numbered in PostgreSQL's pg_type, which never changes for its own types. */
enum oid {
    OID_BOOL = 16,
    OID_INT8 = 20,
    OID_INT2 = 21,
    OID_INT4 = 23,
    OID_OID = 26,
    OID_JSON = 114,
    OID_FLOAT4 = 700,
    OID_FLOAT8 = 701,
    OID_JSONB = 3802,
};

static const char *name(void *self, size_t column) {
    const struct lvt_row_store *store = self;
    return PQfname(store->last, (int)column);
}

/* numeric is text: no double holds what it can */
static enum lvt_column_kind kind(void *self, size_t column) {
    const struct lvt_row_store *store = self;
    switch (PQftype(store->last, (int)column)) {
    case OID_BOOL:
        return LVT_COLUMN_BOOLEAN;
    case OID_INT2:
    case OID_INT4:
    case OID_INT8:
    case OID_OID:
        return LVT_COLUMN_INTEGER;
    case OID_FLOAT4:
    case OID_FLOAT8:
        return LVT_COLUMN_NUMBER;
    case OID_JSON:
    case OID_JSONB:
        return LVT_COLUMN_JSON;
    default:
        return LVT_COLUMN_TEXT;
    }
}

static bool cell(void *self, size_t row, size_t column, struct lvt_bytes *ret_text) {
    const struct lvt_row_store *store = self;
    size_t number = row * (size_t)PQnfields(store->last) + column;
    struct cell one;
    memcpy(&one, store->cells.data + number * sizeof one, sizeof one);
    if (one.len < 0)
        return false;
    *ret_text = lvt_bytes(one.len ? store->text.data + one.at : "", (size_t)one.len);
    return true;
}

void lvt_rows_of(struct lvt_row_store *store, const PGresult *last, struct lvt_rows *ret_rows) {
    store->last = last;
    *ret_rows = (struct lvt_rows){
        .self = store,
        .row_count = store->row_count,
        .column_count = (size_t)PQnfields(last),
        .affected = atoll(PQcmdTuples((PGresult *)last)), /* which does not change it */
        .name = name,
        .kind = kind,
        .cell = cell,
    };
}
