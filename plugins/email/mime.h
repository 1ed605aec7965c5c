/* A mail as it goes over the wire: headers, then one part or two, all in ASCII with CRLF. */
#ifndef LEVERET_PLUGINS_EMAIL_MIME_H
#define LEVERET_PLUGINS_EMAIL_MIME_H

#include <time.h>

#include "common/failure.h"

struct lvt_mail {
    const char *from, *to; /* addresses that lvt_mail_address_check has passed */
    const char *from_name; /* NULL: none */
    const char *subject;
    struct leveret_text text, html; /* data NULL: there is none. At least one there is */
    const char *message_id;         /* with its angle brackets */
    time_t date;
};

/* One mailbox, name@host in ASCII. `what` is what the error calls it. */
bool lvt_mail_address_check(const char *address, const char *what, struct lvt_failure *failure);
/* What may stand in a header: no line break nor other control character, 998 bytes at most. */
bool lvt_mail_header_check(const char *text, const char *what, struct lvt_failure *failure);

/* Writes <ID@host of from>, so that an event that is sent twice can be told. An id that may not
 * stand there, or is longer than 128 bytes, is written as a hash; an empty one by chance. */
void lvt_mail_message_id(struct leveret_text id, const char *from, char *buffer, size_t size);

/* For free(). NULL: out of memory. */
char *lvt_mime_build(const struct lvt_mail *mail, size_t *ret_len);

#endif
