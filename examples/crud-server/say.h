/* The log: one line on standard error, with the time. From any thread. */
#ifndef SAY_H
#define SAY_H

__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

#endif
