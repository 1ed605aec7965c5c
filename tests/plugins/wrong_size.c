#include "wrong.h"

static void spoil(void) {
    plugin.size -= sizeof(void *);
}
