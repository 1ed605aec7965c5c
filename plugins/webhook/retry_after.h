/* The header Retry-After (RFC 9110, 10.2.3). */
#ifndef LEVERET_PLUGINS_WEBHOOK_RETRY_AFTER_H
#define LEVERET_PLUGINS_WEBHOOK_RETRY_AFTER_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* No receiver holds an event back for longer. */
#define RETRY_AFTER_MAX_MS ((int64_t)86400 * 1000)

/* How long to wait, for seconds as for a date in any of HTTP's three forms; -1 when the value asks
 * for no wait, or for nothing that can be understood. */
int64_t retry_after_ms(const char *value, size_t len, const struct timespec *now);

#endif
