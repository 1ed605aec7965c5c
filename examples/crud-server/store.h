/* Where items are. A change and its event are one: a store that makes the change sees to it that
 * the event item.created, item.updated or item.deleted follows, with the item as it is then. */
#ifndef STORE_H
#define STORE_H

#include "events.h"
#include "item.h"

#define STORE_LIST_MAX 1000
#define STORE_MEMORY_MAX 10000 /* items in memory */

enum store_result {
    STORE_OK,
    STORE_NOT_FOUND,
    STORE_FULL,
    STORE_AWAY, /* cannot be reached, or does not answer in time */
};

/* All of them from any thread. item_free frees items that were returned. */
struct store {
    void *self;
    /* Gives the item its id. */
    enum store_result (*create)(void *self, struct item *item);
    enum store_result (*get)(void *self, int64_t id, struct item *ret_item);
    /* By id, those after `after`, at most `limit` of them. free() frees the list. */
    enum store_result (*list)(void *self, int64_t after, size_t limit, struct item **ret_items,
                              size_t *ret_count);
    enum store_result (*update)(void *self, const struct item *item);
    enum store_result (*remove)(void *self, int64_t id);
    bool (*healthy)(void *self);
    void (*close)(void *self);
};

/* The events go to `events`, which outlives the store. False when out of memory. */
bool store_in_memory(struct events *events, struct store *ret_store);

/* At a PostgreSQL that `leveret migrate` has set up; it need not be there yet. The events go into
 * its outbox. False when it makes no sense of the address. */
bool store_in_postgres(const char *url, struct store *ret_store);

#endif
