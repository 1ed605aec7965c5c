/* What configuration and handler options share: structs that a table of keys describes. */
#ifndef LEVERET_CONFIG_KEYS_H
#define LEVERET_CONFIG_KEYS_H

#include "config/config.h"

/* As lvt_keys_set, from the text of a variable or default: numbers are parsed, lists split at
 * commas. */
enum leveret_code lvt_key_set_text(const struct lvt_key *key, void *target, const char *text,
                                   struct leveret_error *err) LVT_MUST_CHECK;

/* Sets the keys that have one to their default. */
enum leveret_code lvt_keys_init(const struct lvt_key *keys, size_t key_count, void *target,
                                struct leveret_error *err) LVT_MUST_CHECK;
/* Gives target, a plain copy of another struct, its own copies of what the keys own. False when out
 * of memory: lvt_keys_free then frees those that were made. */
bool lvt_keys_own(const struct lvt_key *keys, size_t key_count, void *target) LVT_MUST_CHECK;
/* Frees what the keys own in target, and sets it to nothing. */
void lvt_keys_free(const struct lvt_key *keys, size_t key_count, void *target);

/* The key whose name is nearest to `path`; NULL when none is near. */
const struct lvt_key *lvt_keys_nearest(const struct lvt_key *keys, size_t key_count,
                                       const char *path);

/* The same for the tables that keys are in; the name is not terminated. */
const char *lvt_keys_nearest_table(const struct lvt_key *keys, size_t key_count, const char *path,
                                   size_t *ret_len);

/* What a value of this key may be: "a whole number from 1 to 65535". */
void lvt_key_expected(const struct lvt_key *key, struct lvt_buffer *out);
/* Digits and a unit, or digits alone for ms; false when it is not that. */
bool lvt_duration_parse(const char *text, double *ret_ms);
/* "7d", "30s", "1500ms": in the largest unit that is exact. */
void lvt_duration_write(double duration_ms, struct lvt_buffer *out);

#endif
