#include "wrong.h"

static void spoil(void) {
    plugin.minor++;
}
