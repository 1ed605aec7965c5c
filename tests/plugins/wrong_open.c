#include "wrong.h"

static int32_t fail(struct leveret_handler *handler, struct leveret_text config, void **ret_self,
                    char *error, size_t error_size) {
    (void)handler, (void)config, (void)ret_self;
    snprintf(error, error_size, "there is no disk");
    return 5;
}

static void spoil(void) {
    plugin.open = fail;
}
