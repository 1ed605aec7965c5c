/* How alike two words are: for a proposal when somebody has misspelt one. */
#ifndef LEVERET_BASE_LIKENESS_H
#define LEVERET_BASE_LIKENESS_H

#include <stddef.h>

/* How many letters to change, add, leave out, or swap with the next make `a` of `b`. A whole ending
 * that is missing ("timeout" for "timeout_ms") counts as one. */
size_t lvt_likeness_distance(const char *a, const char *b);

/* What is further from the word is no likeness. */
size_t lvt_likeness_limit(const char *word);

#endif
