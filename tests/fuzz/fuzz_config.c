/* leveret.lua: any text is read, or refused with a reason and within its limits. */
#include <unistd.h>

#include "config/config.h"
#include "fuzz.h"
#include "runtime/lua/lua_config.h"

static const char *file_with(const uint8_t *data, size_t size) {
    static char path[64];
    static int file = -1;
    if (file < 0) {
        char name[] = "/tmp/leveret-fuzz-XXXXXX";
        file = mkstemp(name);
        FUZZ_CHECK(file >= 0 && unlink(name) == 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    FUZZ_CHECK(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == (ssize_t)size);
    return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct lvt_config config;
    struct leveret_error err = {0};
    FUZZ_CHECK(lvt_config_init(&config, &err) == LEVERET_OK);
    enum leveret_code code = lvt_lua_config_read(file_with(data, size), &config, &err);
    if (code == LEVERET_OK)
        code = lvt_config_check(&config, &err);
    if (code != LEVERET_OK)
        FUZZ_CHECK(err.text[0] != '\0');
    for (size_t i = 0; i < config.handlers.count; i++)
        FUZZ_CHECK(config.handlers.items[i]);
    lvt_config_free(&config);
    return 0;
}
