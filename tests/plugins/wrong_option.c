#include "wrong.h"

static void spoil(void) {
    plugin.options = "{\"retry\": {\"maximum\": 3}}";
}
