/* Hangs as it is loaded. */
#include <unistd.h>

#include "wrong.h"

static void spoil(void) {
}

__attribute__((constructor)) static void hang(void) {
    for (;;)
        pause();
}
