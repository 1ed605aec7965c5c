#include "say.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

void say(const char *format, ...) {
    char line[1000], clock[32];
    time_t now = time(NULL);
    struct tm local;
    strftime(clock, sizeof clock, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &local));
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s %s\n", clock, line);
}
