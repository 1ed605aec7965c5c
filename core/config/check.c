#include <stdlib.h>
#include <string.h>

#include "config/keys.h"

#define DURATION_TEXT 32

static const char *shown(double duration_ms, char out[DURATION_TEXT]) {
    struct lvt_buffer buffer;
    lvt_buffer_init_fixed(&buffer, out, DURATION_TEXT);
    lvt_duration_write(duration_ms, &buffer);
    return out;
}

/* From the start of an event's first run to the end of its last, at most. */
static double retries_ms(uint64_t timeout_ms, const struct lvt_retry_policy *retry) {
    double total_ms = (double)timeout_ms, delay_ms = (double)retry->base_ms;
    double cap_ms = (double)retry->cap_ms;
    for (uint32_t i = 0; i < retry->max; i++) {
        total_ms += (delay_ms < cap_ms ? delay_ms : cap_ms) + (double)timeout_ms;
        delay_ms *= retry->factor;
    }
    return total_ms;
}

static enum leveret_code check_times(uint64_t timeout_ms, const struct lvt_retry_policy *retry,
                                     const struct lvt_config *config, struct leveret_error *err) {
    char text[2][DURATION_TEXT];
    uint64_t broker_ms = config->rabbitmq.consumer_timeout_ms;
    if (timeout_ms >= broker_ms / 2) {
        return leveret_fail(err, LEVERET_CONFIG,
                            "timeout_ms is %s, but must be below half of "
                            "rabbitmq.consumer_timeout, which is %s: the broker takes back what "
                            "is not acked by then",
                            shown((double)timeout_ms, text[0]), shown((double)broker_ms, text[1]));
    }
    if (retry->base_ms > retry->cap_ms) {
        return leveret_fail(
            err, LEVERET_CONFIG, "retry.base_ms is %s, more than retry.cap_ms, which is %s",
            shown((double)retry->base_ms, text[0]), shown((double)retry->cap_ms, text[1]));
    }
    double needed_ms = retries_ms(timeout_ms, retry);
    if ((double)config->ledger.retention_ms < needed_ms) {
        return leveret_fail(err, LEVERET_CONFIG,
                            "ledger.retention is %s, but an event's retries may take %s, and it "
                            "must be remembered for longer: raise the retention, or lower "
                            "retry.max, retry.cap_ms or timeout_ms",
                            shown((double)config->ledger.retention_ms, text[0]),
                            shown(needed_ms, text[1]));
    }
    return LEVERET_OK;
}

static enum leveret_code check_listen(const char *listen, struct leveret_error *err) {
    if (listen[0] == '\0') {
        return LEVERET_OK;
    }
    const char *colon = strrchr(listen, ':');
    if (colon && colon > listen) {
        size_t digits = strspn(colon + 1, "0123456789");
        if (digits >= 1 && digits <= 5 && colon[1 + digits] == '\0' &&
            strtoul(colon + 1, NULL, 10) <= 65535) {
            return LEVERET_OK;
        }
    }
    return leveret_fail(err, LEVERET_CONFIG,
                        "admin.listen must be host:port, such as 127.0.0.1:9464, not \"%.100s\"",
                        listen);
}

enum leveret_code lvt_config_check(const struct lvt_config *config, struct leveret_error *err) {
    enum leveret_code code = check_times(config->timeout_ms, &config->retry, config, err);
    return code == LEVERET_OK ? check_listen(config->admin.listen, err) : code;
}

enum leveret_code lvt_handler_options_check(const struct lvt_handler_options *options,
                                            const struct lvt_config *config,
                                            struct leveret_error *err) {
    return check_times(options->timeout_ms, &options->retry, config, err);
}
