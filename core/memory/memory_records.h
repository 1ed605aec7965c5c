/* A set of keys that remembers the newest of them. For core/memory only. */
#ifndef LEVERET_MEMORY_MEMORY_RECORDS_H
#define LEVERET_MEMORY_MEMORY_RECORDS_H

#include "engine/ports.h"

struct lvt_record;

struct lvt_records {
    struct lvt_record *records; /* a ring, once it is as big as it may get */
    uint32_t *buckets;          /* of positions in the ring, from 1; as many as there is room for */
    uint32_t count, size, max;
    uint32_t oldest; /* once count is max */
};

void lvt_records_init(struct lvt_records *records, uint32_t max);
void lvt_records_free(struct lvt_records *records);
bool lvt_records_has(const struct lvt_records *records, const unsigned char *key);
/* False when out of memory. A key that is there already stays. */
bool lvt_records_add(struct lvt_records *records, const unsigned char *key);

#endif
