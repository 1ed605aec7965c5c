#include <stdio.h>
#include <uv.h>

#include "admin/admin.h"
#include "broker/broker.h"
#include "cache/cache.h"
#include "cli/program.h"
#include "http/http.h"
#include "ledger/ledger.h"
#include "runtime/lua/lua_handler.h"

static const char help[] =
    "usage: leveret version\n"
    "\n"
    "Prints the version, and those of the libraries that it runs on.\n";

int lvt_command_version(int argc, char **argv) {
    const char *unused_config = NULL;
    const char *const flags[] = {NULL};
    int status = lvt_program_options(argc, argv, help, flags, NULL, &unused_config);
    if (status >= 0)
        return status;
    printf("leveret %s\n", LEVERET_VERSION);
    const char *const libraries[] = {lvt_broker_library(), lvt_ledger_library(),
                                     lvt_cache_library(),  lvt_lua_library(),
                                     lvt_http_library(),   lvt_admin_library()};
    for (size_t i = 0; i < sizeof libraries / sizeof libraries[0]; i++)
        puts(libraries[i]);
    printf("libuv %s\n", uv_version_string());
    return LVT_EXIT_OK;
}
