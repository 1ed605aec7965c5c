#include "wrong.h"

static const char *const no_events[] = {NULL};

static void spoil(void) {
    plugin.events = no_events;
}
