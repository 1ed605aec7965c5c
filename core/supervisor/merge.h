/* Sums texts in Prometheus's format: of several lanes, or of one before and after it died. */
#ifndef LEVERET_SUPERVISOR_MERGE_H
#define LEVERET_SUPERVISOR_MERGE_H

#include "base/buffer.h"
#include "base/bytes.h"

struct lvt_merge;

/* NULL when out of memory, which the other functions take: they do nothing then. */
struct lvt_merge *lvt_merge_new(void);
void lvt_merge_free(struct lvt_merge *merge);

/* Counters and histograms are added. Of gauges, what every lane sees for itself is added; what all
 * of them see is the largest, and a connection is there when every lane has it. Text that is not
 * understood is left out. */
void lvt_merge_add(struct lvt_merge *merge, struct lvt_bytes text);
/* The same of counters and histograms only. */
void lvt_merge_add_counters(struct lvt_merge *merge, struct lvt_bytes text);

/* Fails the buffer when anything was out of memory. */
void lvt_merge_write(const struct lvt_merge *merge, struct lvt_buffer *out);

#endif
