/* What somebody may have meant by a key that does not exist. */
#include <string.h>

#include "base/likeness.h"
#include "config/keys.h"

#define TABLE_MAX_BYTES 32

static const char *last_word(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

const struct lvt_key *lvt_keys_nearest(const struct lvt_key *keys, size_t key_count,
                                       const char *path) {
    const struct lvt_key *nearest = NULL;
    size_t best = lvt_likeness_limit(path) + 1;
    size_t best_whole = 0;
    for (size_t i = 0; i < key_count; i++) {
        /* The right word in the wrong table, or in none, is a good guess, but not the best. */
        size_t whole = lvt_likeness_distance(path, keys[i].name);
        size_t word = lvt_likeness_distance(last_word(path), last_word(keys[i].name)) + 1;
        size_t far = whole < word ? whole : word;
        if (far < best || (nearest && far == best && whole < best_whole)) {
            best = far;
            best_whole = whole;
            nearest = &keys[i];
        }
    }
    return nearest;
}

const char *lvt_keys_nearest_table(const struct lvt_key *keys, size_t key_count, const char *path,
                                   size_t *ret_len) {
    const char *nearest = NULL;
    size_t best = lvt_likeness_limit(path) + 1;
    for (size_t i = 0; i < key_count; i++) {
        char table[TABLE_MAX_BYTES];
        size_t len = strcspn(keys[i].name, ".");
        if (!keys[i].name[len] || len >= sizeof table)
            continue;
        memcpy(table, keys[i].name, len);
        table[len] = '\0';
        size_t far = lvt_likeness_distance(path, table);
        if (far < best) {
            best = far;
            nearest = keys[i].name;
            *ret_len = len;
        }
    }
    return nearest;
}
