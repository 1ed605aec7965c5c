/* Bodies as every kind of envelope: what is read from one is JSON, and lies within it. The input is
 * a path, the property `type`, and the body, a line each but for the last. */
#include "event/envelope.h"
#include "event/json.h"
#include "fuzz.h"

static void check_read(struct lvt_delivery *delivery, enum lvt_envelope_kind kind,
                       const char *path) {
    struct lvt_envelope envelope;
    struct leveret_error err;
    struct lvt_bytes scalar;
    if (lvt_envelope_read(delivery, kind, &envelope, &err) != LEVERET_OK) {
        FUZZ_CHECK(err.text[0] != '\0');
        return;
    }
    FUZZ_CHECK(lvt_json_validate(envelope.payload, LVT_NESTING_MAX, &err) == LEVERET_OK);
    FUZZ_CHECK(envelope.max_attempts >= -1 && envelope.delay_s >= -1);
    (void)lvt_json_scalar_at(delivery->body, path, &delivery->arena, &scalar);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct lvt_bytes rest = lvt_bytes((const char *)data, size);
    char *path = fuzz_text(fuzz_line(&rest));
    struct lvt_bytes type = fuzz_line(&rest);
    for (int kind = LVT_ENVELOPE_AUTO; kind <= LVT_ENVELOPE_CLOUDEVENTS; kind++) {
        struct lvt_delivery *delivery = lvt_delivery_new(size);
        FUZZ_CHECK(delivery);
        delivery->properties.present = type.len > 0 ? LVT_HAS_TYPE : 0;
        delivery->properties.type = type;
        delivery->routing_key = LVT_LITERAL("a.b");
        delivery->body = rest;
        check_read(delivery, (enum lvt_envelope_kind)kind, path);
        lvt_delivery_free(delivery);
    }
    free(path);
    return 0;
}
