#include "wrong.h"

static void spoil(void) {
    plugin.size = 0;
}
