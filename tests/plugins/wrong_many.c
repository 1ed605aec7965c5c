#include "wrong.h"

static const char *many[300];

static void spoil(void) {
    for (int i = 0; i < 299; i++)
        many[i] = "one.of.many";
    plugin.events = many;
}
