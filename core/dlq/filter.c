#include "dlq/filter.h"

#include "engine/routes.h"

bool lvt_letter_filter_given(const struct lvt_letter_filter *filter) {
    return filter->queue_count > 0 || filter->event || filter->id || filter->fingerprint ||
           filter->failed_before_s >= 0 || filter->failed_after_s >= 0;
}

static bool fits_queue(const struct lvt_letter_filter *filter, const struct lvt_letter *letter) {
    for (size_t i = 0; i < filter->queue_count; i++)
        if (lvt_bytes_is(letter->queue, filter->queues[i]))
            return true;
    return filter->queue_count == 0;
}

static bool fits_time(const struct lvt_letter_filter *filter, int64_t failed_at_s) {
    if (filter->failed_before_s >= 0 && (failed_at_s < 0 || failed_at_s > filter->failed_before_s))
        return false;
    return filter->failed_after_s < 0 || failed_at_s >= filter->failed_after_s;
}

bool lvt_letter_fits(const struct lvt_letter_filter *filter, const struct lvt_letter *letter) {
    return fits_queue(filter, letter) && fits_time(filter, letter->failed_at_s) &&
           (!filter->event || lvt_pattern_matches(filter->event, letter->event)) &&
           (!filter->id || lvt_bytes_is(letter->id, filter->id)) &&
           (!filter->fingerprint || strcmp(letter->fingerprint, filter->fingerprint) == 0);
}
