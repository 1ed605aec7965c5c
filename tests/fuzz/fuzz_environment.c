/* Variables of the environment, one a line, and URLs as they are shown: what can be told apart as a
 * password is never shown. */
#include "config/config.h"
#include "fuzz.h"

#define VARIABLES_MAX 16

static void check_redacted(const char *variable) {
    char shown[256];
    const char *equals = strchr(variable, '=');
    if (equals)
        lvt_url_redact(equals + 1, shown, sizeof shown);
    lvt_url_redact("amqp://user:hunter2@host/", shown, sizeof shown);
    FUZZ_CHECK(!strstr(shown, "hunter2"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct lvt_bytes rest = lvt_bytes((const char *)data, size);
    char *variables[VARIABLES_MAX + 1] = {NULL};
    struct lvt_config config;
    struct leveret_error err = {0};
    size_t count = 0;
    while (rest.len > 0 && count < VARIABLES_MAX)
        variables[count++] = fuzz_text(fuzz_line(&rest));
    FUZZ_CHECK(lvt_config_init(&config, &err) == LEVERET_OK);
    if (lvt_config_environment(&config, variables, &err) != LEVERET_OK)
        FUZZ_CHECK(err.text[0] != '\0');
    lvt_config_free(&config);
    for (size_t i = 0; i < count; i++) {
        check_redacted(variables[i]);
        free(variables[i]);
    }
    return 0;
}
