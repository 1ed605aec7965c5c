/* Needs a function that nobody has. */
#include "wrong.h"

void leveret_tests_nobody_has_this(void);

static void spoil(void) {
    leveret_tests_nobody_has_this();
}
