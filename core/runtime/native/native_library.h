/* A plugin's file: copied aside, so that whatever becomes of it does not touch what runs; looked
 * at, tried, and loaded from the copy. */
#ifndef LEVERET_RUNTIME_NATIVE_LIBRARY_H
#define LEVERET_RUNTIME_NATIVE_LIBRARY_H

#include <stddef.h>

#include "base/error.h"
#include "base/sha256.h"
#include "leveret/plugin.h"

/* The copy: a file of nobody else's, without a name. */
struct lvt_native_copy {
    int fd;
    size_t size;
    unsigned char hash[SHA256_DIGEST_SIZE];
};

/* LEVERET_CONFIG: it cannot be read, is too big, or was written to meanwhile. The texts of all of
 * these say what is wrong, not with which file. */
enum leveret_code lvt_native_copy_make(const char *path, struct lvt_native_copy *ret_copy,
                                       struct leveret_error *err) LVT_MUST_CHECK;
void lvt_native_copy_close(struct lvt_native_copy *copy);

/* Whether it is a whole shared object for this machine, as far as its headers tell. */
enum leveret_code lvt_native_copy_check(const struct lvt_native_copy *copy,
                                        struct leveret_error *err) LVT_MUST_CHECK;

/* Loads the copy, and asks it for its descriptor, which is checked. The library is the caller's,
 * for dlclose. */
enum leveret_code lvt_native_library_open(const struct lvt_native_copy *copy, void **ret_library,
                                          const struct leveret_plugin **ret_plugin,
                                          struct leveret_error *err) LVT_MUST_CHECK;

/* Whether a descriptor is whole, and one for this host. */
enum leveret_code lvt_native_descriptor_check(const struct leveret_plugin *plugin,
                                              struct leveret_error *err) LVT_MUST_CHECK;

/* native_probe.c: the same in a child process, which ends with it. One that dies there is refused
 * from then on, by its content. */
enum leveret_code lvt_native_probe(const struct lvt_native_copy *copy,
                                   struct leveret_error *err) LVT_MUST_CHECK;

#endif
