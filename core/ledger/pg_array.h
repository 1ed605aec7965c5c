/* Arrays as PostgreSQL's binary protocol wants them, for parameters that stand for many rows. */
#ifndef LEVERET_LEDGER_PG_ARRAY_H
#define LEVERET_LEDGER_PG_ARRAY_H

#include <stdint.h>

#include "base/buffer.h"

enum lvt_pg_element { LVT_PG_INT8 = 20, LVT_PG_TEXT = 25, LVT_PG_UUID = 2950 }; /* their oids */

struct lvt_pg_array {
    struct lvt_buffer buffer; /* valid after lvt_pg_array_end */
    enum lvt_pg_element element;
    uint32_t count;
};

void lvt_pg_array_init(struct lvt_pg_array *array, enum lvt_pg_element element);
void lvt_pg_array_free(struct lvt_pg_array *array);

/* Empties it for a new content, keeping the memory. */
void lvt_pg_array_begin(struct lvt_pg_array *array);
void lvt_pg_array_int8(struct lvt_pg_array *array, int64_t value);
void lvt_pg_array_uuid(struct lvt_pg_array *array, const unsigned char uuid[16]);
void lvt_pg_array_text(struct lvt_pg_array *array, struct lvt_bytes text);
/* False when memory ran out on the way. */
bool lvt_pg_array_end(struct lvt_pg_array *array) LVT_MUST_CHECK;

/* Appends text as a database in UTF-8 takes it: what is not valid there, NUL included, becomes
 * U+FFFD. The ledger's texts are there to be looked at; its key is of the bytes as they came. */
void lvt_pg_text(struct lvt_buffer *buffer, struct lvt_bytes text);

#endif
