/* UUIDs of version 7 (RFC 9562): ordered by their time, and never the same twice. */
#ifndef LEVERET_BASE_UUID_H
#define LEVERET_BASE_UUID_H

#include <stdint.h>

#define LVT_UUID_SIZE 37 /* with the NUL */

/* unix_ms is the time since 1970. The rest is the system's randomness, not a seeded clock's: two
 * workers that make the same id would each take the other's event for a duplicate. */
void lvt_uuid7(uint64_t unix_ms, char out[LVT_UUID_SIZE]);

#endif
