/* The webhook's configuration. */
#ifndef LEVERET_PLUGINS_WEBHOOK_CONFIG_H
#define LEVERET_PLUGINS_WEBHOOK_CONFIG_H

#include <leveret/plugin.h>

#include "signature.h"

extern const struct leveret_host *host;

/* Where the events of a type go. */
struct target {
    char *type;
    char *url;
};

struct webhook_config {
    char *url; /* of all other events; NULL: there is none */
    struct target *targets;
    size_t target_count;
    struct hmac_sha256_ctx key;
    uint64_t timeout_ms;
};

/* NULL, with a text in error, when it is wrong. */
struct webhook_config *webhook_config_read(struct leveret_text json, char *error,
                                           size_t error_size);
/* NULL is fine. */
void webhook_config_free(struct webhook_config *config);
/* NULL: events of this type go nowhere. */
const char *webhook_config_url(const struct webhook_config *config, struct leveret_text type);

#endif
