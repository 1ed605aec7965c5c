#include "base/likeness.h"

#include <string.h>

#define NAME_MAX_LEN 63

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

#define PREFIX_LEN_MIN 4

size_t lvt_likeness_distance(const char *a, const char *b) {
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

size_t lvt_likeness_limit(const char *word) {
    return least(strlen(word) / 3 + 1, 4);
}
