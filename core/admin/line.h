/* What goes over the socket between a lane and its supervisor: a byte asks, and this answers, with
 * the metrics' text behind it; none when there was no memory for it. Both are the same program. */
#ifndef LEVERET_ADMIN_LINE_H
#define LEVERET_ADMIN_LINE_H

#include "admin/server.h"

struct lvt_line_answer {
    struct lvt_report report; /* its metrics are not valid here */
    uint64_t metrics_len;
};

#endif
