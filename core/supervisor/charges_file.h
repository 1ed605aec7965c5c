/* The charges, and the file that keeps them: a record is appended for each, and for each that is
 * taken back. It is made with the first charge. A file that cannot be read or written costs the
 * memory of what was charged, and nothing else. */
#ifndef LEVERET_SUPERVISOR_CHARGES_FILE_H
#define LEVERET_SUPERVISOR_CHARGES_FILE_H

#include "base/error.h"
#include "base/log.h"
#include "blackbox/charges.h"

struct lvt_charges_file;

/* Reads what is there. folder NULL: nothing is kept. Several workers of one name share the folder,
 * with a file each. Only out of memory is an error; the rest is logged. */
enum leveret_code lvt_charges_file_open(const char *folder, const char *name,
                                        const struct lvt_log *log,
                                        struct lvt_charges_file **ret_file,
                                        struct leveret_error *err) LVT_MUST_CHECK;
void lvt_charges_file_close(struct lvt_charges_file *file); /* NULL is fine */

/* All that stand, the oldest first. */
const struct lvt_charge *lvt_charges_file_list(const struct lvt_charges_file *file,
                                               size_t *ret_count);

/* One more crash of this event; the charge as it stands then. When there are too many, the oldest
 * goes. */
struct lvt_charge lvt_charges_file_charge(struct lvt_charges_file *file, const unsigned char *key,
                                          uint32_t attempt, enum lvt_death death, int detail);
/* Suspects are not written down. */
void lvt_charges_file_suspect(struct lvt_charges_file *file, const unsigned char *key);
/* False: there was nothing to take back. */
bool lvt_charges_file_pardon(struct lvt_charges_file *file, const unsigned char *key);

#endif
