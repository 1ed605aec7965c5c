/* The embedded cache's keys. For core/memory only. */
#ifndef LEVERET_MEMORY_MEMORY_TABLE_H
#define LEVERET_MEMORY_MEMORY_TABLE_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

struct lvt_entry;

struct lvt_table {
    struct lvt_entry **buckets;
    size_t size, count;
    size_t bytes, bytes_max;
};

void lvt_table_free(struct lvt_table *table);
/* False when there is no such key. The value stays as it is until the table is changed. */
bool lvt_table_get(const struct lvt_table *table, struct lvt_bytes key,
                   struct lvt_bytes *ret_value);
/* LEVERET_TOO_BIG: over bytes_max; LEVERET_NO_MEMORY. Then nothing is changed. */
enum leveret_code lvt_table_set(struct lvt_table *table, struct lvt_bytes key,
                                struct lvt_bytes value) LVT_MUST_CHECK;
/* Whether there was such a key. */
bool lvt_table_remove(struct lvt_table *table, struct lvt_bytes key);
/* How many keys fitted the glob. */
size_t lvt_table_remove_fitting(struct lvt_table *table, struct lvt_bytes pattern);

#endif
