#include "ledger/rows.h"

#include <stdlib.h>

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
    return PQfname(self, (int)column);
}

/* numeric is text: no double holds what it can */
static enum lvt_column_kind kind(void *self, size_t column) {
    switch (PQftype(self, (int)column)) {
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
    if (PQgetisnull(self, (int)row, (int)column))
        return false;
    *ret_text = lvt_bytes(PQgetvalue(self, (int)row, (int)column),
                          (size_t)PQgetlength(self, (int)row, (int)column));
    return true;
}

void lvt_rows_of(PGresult *result, struct lvt_rows *ret_rows) {
    *ret_rows = (struct lvt_rows){
        .self = result,
        .row_count = (size_t)PQntuples(result),
        .column_count = (size_t)PQnfields(result),
        .affected = atoll(PQcmdTuples(result)),
        .name = name,
        .kind = kind,
        .cell = cell,
    };
}
