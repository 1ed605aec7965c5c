/* How a plugin whose configuration is a table of settings is opened. */
#ifndef LEVERET_PLUGINS_OPEN_H
#define LEVERET_PLUGINS_OPEN_H

#include <stdlib.h>

#include "common/failure.h"

/* For the end of a plugin's open. Makes a struct of `size` bytes, all zero, which `fill` is given
 * with the configuration; what could not be filled in is closed. */
static inline int32_t lvt_plugin_open(size_t size,
                                      bool (*fill)(void *self, struct leveret_text config,
                                                   struct lvt_failure *failure),
                                      void (*close)(void *self), struct leveret_text config,
                                      void **ret_self, char *error, size_t error_size) {
    struct lvt_failure failure = {.text = "out of memory"};
    void *self = calloc(1, size);
    if (self && fill(self, config, &failure)) {
        *ret_self = self;
        return 0;
    }
    snprintf(error, error_size, "%s", failure.text);
    if (self)
        close(self);
    return -1;
}

#endif
