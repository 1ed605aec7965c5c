/* What somebody may have meant by a key that does not exist. */
#include <stdlib.h>
#include <string.h>

#include "config/keys.h"

#define NAME_MAX_LEN 63

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

#define PREFIX_LEN_MIN 4

/* How many letters to change, add, leave out, or swap with the next make `a` of `b`. A whole ending
 * that is missing ("timeout" for "timeout_ms") counts as one. */
static size_t distance(const char *a, const char *b) {
    size_t rows[3][NAME_MAX_LEN + 1];
    size_t a_len = strlen(a), b_len = strlen(b);
    if (a_len > NAME_MAX_LEN || b_len > NAME_MAX_LEN) {
        return NAME_MAX_LEN;
    }
    if (a_len >= PREFIX_LEN_MIN && a_len < b_len && memcmp(a, b, a_len) == 0) {
        return 1;
    }
    for (size_t j = 0; j <= b_len; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        size_t *row = rows[i % 3], *above = rows[(i - 1) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                row[j] = least(row[j], above2[j - 2] + 1);
            }
        }
    }
    return rows[a_len % 3][b_len];
}

static const char *last_word(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

const struct lvt_key *lvt_keys_nearest(const struct lvt_key *keys, size_t key_count,
                                       const char *path) {
    const struct lvt_key *nearest = NULL;
    size_t best = least(strlen(path) / 3 + 1, 4) + 1; /* further is no likeness */
    size_t best_whole = 0;
    for (size_t i = 0; i < key_count; i++) {
        /* The right word in the wrong table, or in none, is a good guess, but not the best. */
        size_t whole = distance(path, keys[i].name);
        size_t word = distance(last_word(path), last_word(keys[i].name)) + 1;
        size_t far = least(whole, word);
        if (far < best || (nearest && far == best && whole < best_whole)) {
            best = far;
            best_whole = whole;
            nearest = &keys[i];
        }
    }
    return nearest;
}
