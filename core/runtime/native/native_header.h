/* Headers of messages, as plugins and embedders see and give them. */
#ifndef LEVERET_RUNTIME_NATIVE_HEADER_H
#define LEVERET_RUNTIME_NATIVE_HEADER_H

#include "event/headers.h"
#include "leveret/plugin.h"

/* The texts stay where they are, both ways. */
void lvt_native_header_read(const struct lvt_header *from, struct leveret_header *to);
/* A kind that cannot be published becomes VOID, which lvt_outgoing_check refuses. */
struct lvt_header lvt_native_header_of(const struct leveret_header *from);

#endif
