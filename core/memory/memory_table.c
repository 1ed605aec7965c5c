#include "memory/memory_table.h"

#include <stdlib.h>

#include "memory/glob.h"

#define FIRST_SIZE 64

struct lvt_entry {
    struct lvt_entry *next;
    size_t key_len, value_len;
    char data[]; /* the key, then the value */
};

static size_t size_of(const struct lvt_entry *entry) {
    return sizeof *entry + entry->key_len + entry->value_len;
}

static struct lvt_bytes key_of(const struct lvt_entry *entry) {
    return lvt_bytes(entry->data, entry->key_len);
}

void lvt_table_free(struct lvt_table *table) {
    lvt_table_remove_fitting(table, LVT_LITERAL("*"));
    free(table->buckets);
}

/* Where the key's entry hangs, or would. The table has buckets. */
static struct lvt_entry **find(const struct lvt_table *table, struct lvt_bytes key) {
    struct lvt_entry **at = &table->buckets[lvt_bytes_hash(key) % table->size];
    while (*at && !lvt_bytes_equal(key_of(*at), key))
        at = &(*at)->next;
    return at;
}

static bool grow(struct lvt_table *table) {
    size_t size = table->size ? table->size * 2 : FIRST_SIZE;
    struct lvt_entry **buckets = calloc(size, sizeof *buckets);
    if (!buckets)
        return table->size > 0; /* longer chains do no harm */
    for (size_t i = 0; i < table->size; i++) {
        struct lvt_entry *next;
        for (struct lvt_entry *entry = table->buckets[i]; entry; entry = next) {
            struct lvt_entry **bucket = &buckets[lvt_bytes_hash(key_of(entry)) % size];
            next = entry->next;
            entry->next = *bucket;
            *bucket = entry;
        }
    }
    free(table->buckets);
    table->buckets = buckets;
    table->size = size;
    return true;
}

bool lvt_table_get(const struct lvt_table *table, struct lvt_bytes key,
                   struct lvt_bytes *ret_value) {
    struct lvt_entry *entry = table->size ? *find(table, key) : NULL;
    if (!entry)
        return false;
    *ret_value = lvt_bytes(entry->data + entry->key_len, entry->value_len);
    return true;
}

static void remove_at(struct lvt_table *table, struct lvt_entry **at) {
    struct lvt_entry *entry = *at;
    *at = entry->next;
    table->bytes -= size_of(entry);
    table->count--;
    free(entry);
}

enum leveret_code lvt_table_set(struct lvt_table *table, struct lvt_bytes key,
                                struct lvt_bytes value) {
    struct lvt_entry *entry = NULL;
    if (key.len > table->bytes_max || value.len > table->bytes_max - key.len)
        return LEVERET_TOO_BIG;
    if (table->count >= table->size && !grow(table))
        return LEVERET_NO_MEMORY;
    struct lvt_entry **at = find(table, key);
    size_t size = sizeof *entry + key.len + value.len;
    if (table->bytes - (*at ? size_of(*at) : 0) + size > table->bytes_max)
        return LEVERET_TOO_BIG;
    entry = malloc(size);
    if (!entry)
        return LEVERET_NO_MEMORY;
    entry->key_len = key.len;
    entry->value_len = value.len;
    if (key.len > 0)
        memcpy(entry->data, key.data, key.len);
    if (value.len > 0)
        memcpy(entry->data + key.len, value.data, value.len);
    if (*at)
        remove_at(table, at);
    entry->next = *at;
    *at = entry;
    table->count++;
    table->bytes += size;
    return LEVERET_OK;
}

bool lvt_table_remove(struct lvt_table *table, struct lvt_bytes key) {
    struct lvt_entry **at = table->size ? find(table, key) : NULL;
    if (!at || !*at)
        return false;
    remove_at(table, at);
    return true;
}

size_t lvt_table_remove_fitting(struct lvt_table *table, struct lvt_bytes pattern) {
    size_t before = table->count;
    for (size_t i = 0; i < table->size; i++) {
        struct lvt_entry **at = &table->buckets[i];
        while (*at) {
            if (lvt_glob_matches(pattern, key_of(*at)))
                remove_at(table, at);
            else
                at = &(*at)->next;
        }
    }
    return before - table->count;
}
