#include "wrong.h"

static void spoil(void) {
    plugin.handle = NULL;
}
