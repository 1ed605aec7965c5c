/* Dead letters by cause: those of one dead-letter queue that failed in one queue, with one type of
 * event and one fingerprint. Holds groups, never letters. */
#ifndef LEVERET_DLQ_GROUPS_H
#define LEVERET_DLQ_GROUPS_H

#include "dlq/letter.h"

/* What comes when there are so many is counted, and put into none. */
#define LVT_GROUPS_MAX 10000

struct lvt_letter_group {
    struct lvt_letter_group *next; /* of its bucket */
    uint32_t hash;
    const char *dead_letter; /* the queue that the letters are in; the caller's */
    char *queue, *event;     /* "" when not known */
    char *error;             /* one of them, as an example */
    char *handler;
    char fingerprint[LVT_FINGERPRINT_LEN + 1];
    bool by_broker;
    uint64_t count;
    int64_t oldest_s, newest_s; /* when they failed; -1: not known of any */
};

struct lvt_letter_groups {
    struct lvt_letter_group **items; /* in the order in which they were found */
    size_t count, size;
    struct lvt_letter_group **buckets;
    uint64_t letters, left_out;
};

enum leveret_code lvt_groups_add(struct lvt_letter_groups *groups, const char *dead_letter,
                                 const struct lvt_letter *letter,
                                 struct leveret_error *err) LVT_MUST_CHECK;
/* The largest first. */
void lvt_groups_sort(struct lvt_letter_groups *groups);
void lvt_groups_free(struct lvt_letter_groups *groups);

#endif
