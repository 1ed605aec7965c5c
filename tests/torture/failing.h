/* One call fails, once: the Nth allocation, or the Nth system call, since the counting began.
 * Linked into a program (see torture.c), or preloaded into one, which TORTURE_FAIL then tells what
 * to do: "memory:N" or "system:N"; with N = 0 nothing fails. How many calls of each kind there
 * were, how many blocks are left, and what failed goes to TORTURE_REPORT. With
 * TORTURE_SPARES_CHILDREN the calls of children neither count nor fail. */
#ifndef LEVERET_TESTS_FAILING_H
#define LEVERET_TESTS_FAILING_H

#include <stdbool.h>
#include <stdint.h>

enum failing_kind { FAILING_MEMORY, FAILING_SYSTEM, FAILING_KINDS };

/* From now on the nth call of this kind fails; 0: none does. */
void failing_begin(enum failing_kind kind, uint64_t nth);
void failing_end(void);
/* Calls of this kind since failing_begin. */
uint64_t failing_count(enum failing_kind kind);
/* What failed, as text: "malloc(48)", "recv: ECONNRESET"; empty when nothing has. */
const char *failing_what(void);
/* Blocks of memory that are not freed. */
int64_t failing_live(void);

/* The exit code of a process in which a library gave up (abort); its name is on standard error. */
#define FAILING_ABORTED 86

#endif
