/* Properties as they come over the wire: what the library decodes goes through our types and back,
 * and is the same on the wire again, once it has been there once. */
#include "broker/amqp_headers.h"
#include "fuzz.h"

#define WIRE_MAX 131072

struct wire {
    char bytes[WIRE_MAX];
    size_t size;
};

/* To our types, and from them to the wire. False when it cannot be put there. */
static bool pass_through(amqp_bytes_t raw, struct wire *out) {
    amqp_pool_t pool;
    void *decoded;
    struct lvt_arena arena;
    struct lvt_properties properties;
    amqp_basic_properties_t back;
    struct leveret_error err;
    bool passed = false;
    init_amqp_pool(&pool, 4096);
    lvt_arena_init(&arena, 0);
    if (amqp_decode_properties(AMQP_BASIC_CLASS, &pool, raw, &decoded) == AMQP_STATUS_OK) {
        FUZZ_CHECK(lvt_properties_from_amqp(decoded, lvt_from_amqp(raw), &arena, &properties));
        size_t depth = lvt_headers_depth(&properties.headers, 64);
        FUZZ_CHECK(depth <= 65);
        passed =
            lvt_properties_to_amqp(&properties, &arena, &back, &out->size, &err) == LEVERET_OK &&
            out->size <= WIRE_MAX;
    }
    if (passed) {
        amqp_bytes_t room = {.len = WIRE_MAX, .bytes = out->bytes};
        FUZZ_CHECK(amqp_encode_properties(AMQP_BASIC_CLASS, &back, room) == (int)out->size);
    }
    lvt_arena_free(&arena);
    empty_amqp_pool(&pool);
    return passed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct wire first, second;
    if (size > 4096)
        return 0; /* deeper tables than the fuzzer's stack takes are the tests' matter */
    char *copy = fuzz_text(lvt_bytes((const char *)data, size));
    if (pass_through((amqp_bytes_t){.len = size, .bytes = copy}, &first)) {
        FUZZ_CHECK(pass_through((amqp_bytes_t){.len = first.size, .bytes = first.bytes}, &second));
        FUZZ_CHECK(first.size == second.size && memcmp(first.bytes, second.bytes, first.size) == 0);
    }
    free(copy);
    return 0;
}
