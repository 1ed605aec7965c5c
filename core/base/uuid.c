#include "base/uuid.h"

#include <sys/random.h>
#include <sys/types.h>

#define UUID_BYTES 16
#define TIME_BYTES 6

void lvt_uuid7(uint64_t unix_ms, char out[LVT_UUID_SIZE]) {
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[UUID_BYTES] = {0};
    for (int i = 0; i < TIME_BYTES; i++)
        bytes[i] = (unsigned char)(unix_ms >> (8 * (TIME_BYTES - 1 - i)));
    /* So few bytes come whole or not at all, and not at all only before the pool is filled: then
     * the call waits. A signal may end that wait. */
    while (getrandom(bytes + TIME_BYTES, UUID_BYTES - TIME_BYTES, 0) < 0)
        ;
    bytes[6] = (unsigned char)(0x70 | (bytes[6] & 0x0f)); /* version 7 */
    bytes[8] = (unsigned char)(0x80 | (bytes[8] & 0x3f)); /* variant */
    for (int i = 0; i < UUID_BYTES; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *out++ = '-';
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    *out = '\0';
}
