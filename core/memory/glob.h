/* Redis's patterns for keys. For core/memory only. */
#ifndef LEVERET_MEMORY_GLOB_H
#define LEVERET_MEMORY_GLOB_H

#include "base/bytes.h"

/* `*` any run of bytes, `?` one byte, `[a-z]` and `[^a-z]` a set, `\` takes the next one literally.
 * Takes pattern times text steps at most. */
bool lvt_glob_matches(struct lvt_bytes pattern, struct lvt_bytes text);

#endif
