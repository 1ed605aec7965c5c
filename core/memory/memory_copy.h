/* Deep copies of what a message carries. */
#ifndef LEVERET_MEMORY_MEMORY_COPY_H
#define LEVERET_MEMORY_MEMORY_COPY_H

#include "base/error.h"
#include "event/headers.h"

/* Copies everything into the arena, however deep the headers are nested. The source and *ret must
 * not be the same. LEVERET_NO_MEMORY is the only error. */
enum leveret_code lvt_memory_copy_properties(struct lvt_arena *arena,
                                             const struct lvt_properties *from,
                                             struct lvt_properties *ret) LVT_MUST_CHECK;

#endif
