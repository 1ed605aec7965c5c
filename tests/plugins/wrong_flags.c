#include "wrong.h"

static void spoil(void) {
    plugin.flags = 1u << 31;
}
