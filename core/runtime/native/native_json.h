/* The host's functions over JSON text. */
#ifndef LEVERET_RUNTIME_NATIVE_JSON_H
#define LEVERET_RUNTIME_NATIVE_JSON_H

#include "leveret/plugin.h"

/* As plugin.h describes them. */
bool lvt_native_json_valid(struct leveret_text json);
int32_t lvt_native_json_at(struct leveret_text json, const char *pointer,
                           struct leveret_text *ret_value);
int64_t lvt_native_json_string(struct leveret_text json, const char *pointer, char *buffer,
                               size_t size);
bool lvt_native_json_integer(struct leveret_text json, const char *pointer, int64_t *ret_integer);
bool lvt_native_json_number(struct leveret_text json, const char *pointer, double *ret_number);
bool lvt_native_json_boolean(struct leveret_text json, const char *pointer, bool *ret_boolean);
int64_t lvt_native_json_count(struct leveret_text json, const char *pointer);
int64_t lvt_native_json_member(struct leveret_text json, const char *pointer, size_t index,
                               char *key_buffer, size_t key_size, struct leveret_text *ret_value);
int64_t lvt_native_json_quote(struct leveret_text text, char *buffer, size_t size);

#endif
