/* Ends the process as it is loaded. */
#include <stdlib.h>

#include "wrong.h"

static void spoil(void) {
}

__attribute__((constructor)) static void leave(void) {
    _Exit(3);
}
