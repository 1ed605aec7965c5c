#include "retry_after.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define VALUE_BYTES 64

static bool read_seconds(const char *text, int64_t *ret_seconds) {
    int64_t seconds = 0;
    if (*text == '\0' || text[strspn(text, "0123456789")] != '\0')
        return false;
    for (; *text; text++)
        if (seconds <= RETRY_AFTER_MAX_MS)
            seconds = seconds * 10 + (*text - '0');
    *ret_seconds = seconds;
    return true;
}

/* "Jan" is 0; -1: it is none. Not strptime's way: months are English in any locale. */
static int read_month(const char *name) {
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (int i = 0; i < 12; i++)
        if (strcmp(name, (const char[]){months[3 * i], months[3 * i + 1], months[3 * i + 2], 0}) ==
            0)
            return i;
    return -1;
}

/* Each form fits from its first to its last character. */
static bool split_date(const char *text, struct tm *tm, char month[4]) {
    int end = 0;
    if (sscanf(text, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT%n", &tm->tm_mday, month,
               &tm->tm_year, &tm->tm_hour, &tm->tm_min, &tm->tm_sec, &end) == 6 &&
        end > 0 && text[end] == '\0')
        return true;
    if (sscanf(text, "%*9[A-Za-z], %2d-%3[A-Za-z]-%2d %2d:%2d:%2d GMT%n", &tm->tm_mday, month,
               &tm->tm_year, &tm->tm_hour, &tm->tm_min, &tm->tm_sec, &end) == 6 &&
        end > 0 && text[end] == '\0') {
        tm->tm_year += 2000;
        return true;
    }
    return sscanf(text, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d%n", month, &tm->tm_mday,
                  &tm->tm_hour, &tm->tm_min, &tm->tm_sec, &tm->tm_year, &end) == 6 &&
           end > 0 && text[end] == '\0';
}

static bool read_date(const char *text, time_t *ret_time) {
    struct tm tm = {0};
    char month[4] = "";
    if (!split_date(text, &tm, month))
        return false;
    tm.tm_mon = read_month(month);
    tm.tm_year -= 1900;
    if (tm.tm_mon < 0 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 ||
        tm.tm_sec > 60)
        return false;
    *ret_time = timegm(&tm);
    return true;
}

int64_t retry_after_ms(const char *value, size_t len, const struct timespec *now) {
    char text[VALUE_BYTES];
    int64_t seconds, wait_ms;
    time_t date;
    if (len >= sizeof text || memchr(value, '\0', len))
        return -1;
    memcpy(text, value, len);
    text[len] = '\0';
    if (read_seconds(text, &seconds))
        wait_ms = seconds < RETRY_AFTER_MAX_MS / 1000 ? seconds * 1000 : RETRY_AFTER_MAX_MS;
    else if (read_date(text, &date))
        wait_ms = ((int64_t)date - now->tv_sec) * 1000 - now->tv_nsec / 1000000;
    else
        return -1;
    if (wait_ms <= 0)
        return -1;
    return wait_ms < RETRY_AFTER_MAX_MS ? wait_ms : RETRY_AFTER_MAX_MS;
}
