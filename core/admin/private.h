/* What the files of this folder share. */
#ifndef LEVERET_ADMIN_PRIVATE_H
#define LEVERET_ADMIN_PRIVATE_H

#include "admin/admin.h"
#include "admin/server.h"
#include "base/buffer.h"

/* ---- listen.c ---- */

#define LVT_ADDRESS_BYTES 64

/* A listening socket, not blocking, and the address as bound. */
enum leveret_code lvt_listen(const char *listen_at, int *ret_fd,
                             char ret_address[LVT_ADDRESS_BYTES],
                             struct leveret_error *err) LVT_MUST_CHECK;

/* ---- pages.c ---- */

/* A thousand event types make some 4 MB of metrics. */
#define LVT_PAGE_BYTES_MAX ((size_t)16 << 20)

struct lvt_page {
    unsigned status; /* 0: it has not been made */
    const char *content_type;
    struct lvt_buffer body; /* for the caller to free; failed when it could not be made */
};

struct lvt_page_kind {
    const char *path;
    const char *title;
    void (*make)(const struct lvt_report *report, struct lvt_page *page);
    bool reports; /* it tells how the worker is */
};

/* NULL: there is none at this path. */
const struct lvt_page_kind *lvt_page_find(const char *path);
/* The report is for a kind that reports. kind NULL makes the page that says that there is none. */
void lvt_page_make(const struct lvt_page_kind *kind, const struct lvt_report *report,
                   struct lvt_page *ret_page);

/* ---- metrics.c ---- */

/* In Prometheus's text format. */
void lvt_metrics_write(const struct lvt_snapshot *snapshot, struct lvt_buffer *out);

#endif
