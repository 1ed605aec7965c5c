/* From a member to the struct that holds it. */
#ifndef LEVERET_BASE_CONTAINER_H
#define LEVERET_BASE_CONTAINER_H

#include <stddef.h>

#define LVT_CONTAINER_OF(pointer, type, member)                                                    \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
