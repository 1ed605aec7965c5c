#include "memory/memory_records.h"

#include <stdlib.h>

#define FIRST_SIZE 1024

struct lvt_record {
    unsigned char key[LVT_KEY_BYTES];
    uint32_t next; /* of its bucket; 0 at the end */
};

void lvt_records_init(struct lvt_records *records, uint32_t max) {
    *records = (struct lvt_records){.max = max};
}

void lvt_records_free(struct lvt_records *records) {
    free(records->records);
    free(records->buckets);
}

static uint32_t *bucket_of(const struct lvt_records *records, const unsigned char *key) {
    uint32_t hash;
    memcpy(&hash, key, sizeof hash); /* a key is a cryptographic hash already */
    return &records->buckets[hash % records->size];
}

static void chain(struct lvt_records *records, uint32_t position) {
    struct lvt_record *record = &records->records[position - 1];
    uint32_t *bucket = bucket_of(records, record->key);
    record->next = *bucket;
    *bucket = position;
}

static void unchain(struct lvt_records *records, uint32_t position) {
    const struct lvt_record *record = &records->records[position - 1];
    uint32_t *at = bucket_of(records, record->key);
    while (*at != position)
        at = &records->records[*at - 1].next;
    *at = record->next;
}

static bool grow(struct lvt_records *records) {
    uint32_t size = records->size ? records->size : FIRST_SIZE / 2;
    size = size > records->max / 2 ? records->max : size * 2;
    struct lvt_record *grown = reallocarray(records->records, size, sizeof *grown);
    if (!grown)
        return false;
    records->records = grown;
    uint32_t *buckets = calloc(size, sizeof *buckets);
    if (!buckets)
        return false;
    free(records->buckets);
    records->buckets = buckets;
    records->size = size;
    for (uint32_t position = 1; position <= records->count; position++)
        chain(records, position);
    return true;
}

bool lvt_records_has(const struct lvt_records *records, const unsigned char *key) {
    if (records->count == 0)
        return false;
    uint32_t position = *bucket_of(records, key);
    while (position && memcmp(records->records[position - 1].key, key, LVT_KEY_BYTES) != 0)
        position = records->records[position - 1].next;
    return position != 0;
}

bool lvt_records_add(struct lvt_records *records, const unsigned char *key) {
    uint32_t position;
    if (lvt_records_has(records, key))
        return true;
    if (records->count < records->max) {
        if (records->count == records->size && !grow(records))
            return false;
        position = ++records->count;
    } else {
        position = records->oldest + 1;
        records->oldest = position % records->max;
        unchain(records, position);
    }
    memcpy(records->records[position - 1].key, key, LVT_KEY_BYTES);
    chain(records, position);
    return true;
}
