/* What the files of this folder share. */
#ifndef LEVERET_ADMIN_PRIVATE_H
#define LEVERET_ADMIN_PRIVATE_H

#include "admin/admin.h"
#include "base/buffer.h"

/* ---- listen.c ---- */

#define LVT_ADDRESS_BYTES 64

/* A listening socket, not blocking, and the address as bound. */
enum leveret_code lvt_listen(const char *listen_at, int *ret_fd,
                             char ret_address[LVT_ADDRESS_BYTES],
                             struct leveret_error *err) LVT_MUST_CHECK;

/* ---- pages.c ---- */

struct lvt_page {
    unsigned status;
    const char *content_type;
    struct lvt_buffer body; /* for the caller to free; failed when it could not be made */
};

/* ret_page->body is initialised in any case. */
void lvt_page_make(const struct lvt_admin_source *source, const char *path,
                   struct lvt_page *ret_page);

/* ---- metrics.c ---- */

/* In Prometheus's text format. */
void lvt_metrics_write(const struct lvt_snapshot *snapshot, struct lvt_buffer *out);

#endif
