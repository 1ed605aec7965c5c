/* What the fuzzers share. Each reads any bytes; what must not be is an abort. */
#ifndef LEVERET_TESTS_FUZZ_FUZZ_H
#define LEVERET_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static inline void *fuzz_alloc(size_t size) {
    void *memory = calloc(1, size);
    FUZZ_CHECK(memory);
    return memory;
}

/* Takes the bytes up to the next newline off the input: the whole of it when there is none. */
static inline struct lvt_bytes fuzz_line(struct lvt_bytes *rest) {
    const char *end = rest->len > 0 ? memchr(rest->data, '\n', rest->len) : NULL;
    struct lvt_bytes line = *rest;
    if (end)
        line.len = (size_t)(end - rest->data);
    size_t taken = line.len + (end != NULL);
    *rest = taken > 0 ? lvt_bytes(rest->data + taken, rest->len - taken) : *rest;
    return line;
}

static inline char *fuzz_text(struct lvt_bytes bytes) {
    char *text = fuzz_alloc(bytes.len + 1);
    if (bytes.len > 0)
        memcpy(text, bytes.data, bytes.len);
    return text;
}

#endif
