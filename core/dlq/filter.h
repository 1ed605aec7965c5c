/* Which dead letters a command is about. */
#ifndef LEVERET_DLQ_FILTER_H
#define LEVERET_DLQ_FILTER_H

#include "dlq/letter.h"

#define LVT_FILTER_QUEUES_MAX 64

/* All that are given must fit. */
struct lvt_letter_filter {
    const char *queues[LVT_FILTER_QUEUES_MAX]; /* that it failed in: one of these */
    size_t queue_count;
    const char *event; /* a pattern, as a handler's events have it; NULL: any */
    const char *id, *fingerprint;
    int64_t failed_before_s, failed_after_s; /* since 1970; -1: no matter when */
};

/* Whether it picks some letters only. */
bool lvt_letter_filter_given(const struct lvt_letter_filter *filter);
/* A letter that does not tell when it failed is neither old nor new. */
bool lvt_letter_fits(const struct lvt_letter_filter *filter, const struct lvt_letter *letter);

#endif
