#include "engine/retry.h"

uint64_t lvt_retry_delay(const struct lvt_retry_policy *policy, uint32_t failures,
                         uint32_t random) {
    double cap_ms = (double)policy->cap_ms;
    double delay_ms = (double)policy->base_ms;
    bool grows = delay_ms > 0 && policy->factor > 1;
    for (uint32_t i = 0; i < failures && grows && delay_ms < cap_ms; i++)
        delay_ms *= policy->factor;
    if (delay_ms > cap_ms)
        delay_ms = cap_ms;
    delay_ms -= delay_ms * policy->jitter * ((double)random / UINT32_MAX);
    return (uint64_t)delay_ms;
}
