/* How long an attempt waits for the next. */
#ifndef LEVERET_ENGINE_RETRY_H
#define LEVERET_ENGINE_RETRY_H

#include <stdint.h>

#include "config/options.h"

/* base * factor ^ failures, at most the cap; chance takes up to the jitter's share off.
 * failures counts from 0: the delay after the first failed run. */
uint64_t lvt_retry_delay(const struct lvt_retry_policy *policy, uint32_t failures, uint32_t random);

#endif
