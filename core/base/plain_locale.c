#include "base/plain_locale.h"

void lvt_plain_locale_hold(struct lvt_plain_locale *ret_held) {
    /* glibc has this one ready: it takes no memory, and is not freed. */
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    ret_held->before = uselocale(plain);
}

void lvt_plain_locale_release(const struct lvt_plain_locale *held) {
    uselocale(held->before);
}
