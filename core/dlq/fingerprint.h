/* A short name for a cause: errors that differ only in numbers, ids and quoted texts share it. */
#ifndef LEVERET_DLQ_FINGERPRINT_H
#define LEVERET_DLQ_FINGERPRINT_H

#include "base/buffer.h"
#include "base/bytes.h"

#define LVT_FINGERPRINT_LEN 8

/* The error with its variable parts folded to '#' and its white space to single spaces. */
void lvt_error_fold(struct lvt_bytes error, struct lvt_buffer *out);

/* The first 32 bits of a SHA-256 of the folded error, in hexadecimal with a NUL. The same in every
 * version: people keep fingerprints in notes and scripts. */
void lvt_fingerprint(struct lvt_bytes error, char ret[LVT_FINGERPRINT_LEN + 1]);

#endif
