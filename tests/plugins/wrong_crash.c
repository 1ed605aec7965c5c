/* Dies as it is loaded. */
#include "wrong.h"

static void spoil(void) {
}

__attribute__((constructor)) static void crash(void) {
    __builtin_trap();
}
