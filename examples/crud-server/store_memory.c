/* Items in memory: an array in the order of their ids, as they are made. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store.h"

struct memory {
    pthread_mutex_t mutex; /* also over the events, so that they come in the order of the changes */
    struct events *events;
    struct item *items; /* STORE_MEMORY_MAX of them */
    size_t count;
    int64_t last_id;
};

/* The first item with this id or a higher one. */
static size_t position(const struct memory *memory, int64_t id) {
    size_t low = 0, high = memory->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (memory->items[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct item *find(const struct memory *memory, int64_t id) {
    size_t at = position(memory, id);
    return at < memory->count && memory->items[at].id == id ? &memory->items[at] : NULL;
}

static enum store_result create(void *self, struct item *item) {
    struct memory *memory = self;
    enum store_result result = STORE_FULL;
    pthread_mutex_lock(&memory->mutex);
    if (memory->count < STORE_MEMORY_MAX) {
        item->id = memory->last_id + 1;
        if (item_copy(item, &memory->items[memory->count])) {
            memory->last_id++;
            memory->count++;
            events_add(memory->events, "item.created", item);
            result = STORE_OK;
        }
    }
    pthread_mutex_unlock(&memory->mutex);
    return result;
}

static enum store_result get(void *self, int64_t id, struct item *ret_item) {
    struct memory *memory = self;
    pthread_mutex_lock(&memory->mutex);
    const struct item *item = find(memory, id);
    enum store_result result = item ? STORE_OK : STORE_NOT_FOUND;
    if (item && !item_copy(item, ret_item))
        result = STORE_FULL;
    pthread_mutex_unlock(&memory->mutex);
    return result;
}

static enum store_result list(void *self, int64_t after, size_t limit, struct item **ret_items,
                              size_t *ret_count) {
    struct memory *memory = self;
    struct item *items = calloc(limit, sizeof *items);
    size_t count = 0;
    bool good = items != NULL;
    pthread_mutex_lock(&memory->mutex);
    for (size_t at = position(memory, after + 1); at < memory->count && count < limit && good; at++)
        if ((good = item_copy(&memory->items[at], &items[count])))
            count++;
    pthread_mutex_unlock(&memory->mutex);
    if (good) {
        *ret_items = items;
        *ret_count = count;
        return STORE_OK;
    }
    for (size_t i = 0; i < count; i++)
        item_free(&items[i]);
    free(items);
    return STORE_FULL;
}

static enum store_result update(void *self, const struct item *item) {
    struct memory *memory = self;
    struct item copy;
    if (!item_copy(item, &copy))
        return STORE_FULL;
    pthread_mutex_lock(&memory->mutex);
    struct item *old = find(memory, item->id);
    if (old) {
        struct item new = copy;
        copy = *old;
        *old = new;
        events_add(memory->events, "item.updated", old);
    }
    pthread_mutex_unlock(&memory->mutex);
    item_free(&copy);
    return old ? STORE_OK : STORE_NOT_FOUND;
}

static enum store_result remove_item(void *self, int64_t id) {
    struct memory *memory = self;
    pthread_mutex_lock(&memory->mutex);
    struct item *item = find(memory, id);
    if (item) {
        events_add(memory->events, "item.deleted", item);
        item_free(item);
        size_t behind = memory->count - (size_t)(item - memory->items) - 1;
        memmove(item, item + 1, behind * sizeof *item);
        memory->count--;
    }
    pthread_mutex_unlock(&memory->mutex);
    return item ? STORE_OK : STORE_NOT_FOUND;
}

static bool healthy(void *self) {
    (void)self;
    return true;
}

static void close_store(void *self) {
    struct memory *memory = self;
    for (size_t i = 0; i < memory->count; i++)
        item_free(&memory->items[i]);
    free(memory->items);
    pthread_mutex_destroy(&memory->mutex);
    free(memory);
}

bool store_in_memory(struct events *events, struct store *ret_store) {
    struct memory *memory = calloc(1, sizeof *memory);
    struct item *items = calloc(STORE_MEMORY_MAX, sizeof *items);
    if (!memory || !items) {
        free(memory);
        free(items);
        return false;
    }
    memory->events = events;
    memory->items = items;
    pthread_mutex_init(&memory->mutex, NULL);
    *ret_store =
        (struct store){memory, create, get, list, update, remove_item, healthy, close_store};
    return true;
}
