#include "dlq/groups.h"

#include <stdlib.h>

#define BUCKETS 4096

static uint32_t hash_of(const char *dead_letter, const struct lvt_letter *letter) {
    const struct lvt_bytes parts[] = {lvt_bytes_of(dead_letter), letter->queue, letter->event,
                                      lvt_bytes_of(letter->fingerprint)};
    uint32_t hash = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        hash = hash * 31 + lvt_bytes_hash(parts[i]);
    return hash;
}

static bool is_of(const struct lvt_letter_group *group, uint32_t hash, const char *dead_letter,
                  const struct lvt_letter *letter) {
    return group->hash == hash && strcmp(group->dead_letter, dead_letter) == 0 &&
           lvt_bytes_is(letter->queue, group->queue) && lvt_bytes_is(letter->event, group->event) &&
           strcmp(group->fingerprint, letter->fingerprint) == 0;
}

static void free_group(struct lvt_letter_group *group) {
    free(group->queue);
    free(group->event);
    free(group->error);
    free(group->handler);
    free(group);
}

static char *copy(struct lvt_bytes text) {
    return strndup(text.len > 0 ? text.data : "", text.len);
}

static struct lvt_letter_group *make_group(const char *dead_letter,
                                           const struct lvt_letter *letter) {
    struct lvt_letter_group *group = calloc(1, sizeof *group);
    if (!group)
        return NULL;
    group->dead_letter = dead_letter;
    group->queue = copy(letter->queue);
    group->event = copy(letter->event);
    group->error = copy(letter->error);
    group->handler = copy(letter->handler);
    group->by_broker = letter->by_broker;
    group->oldest_s = group->newest_s = -1;
    memcpy(group->fingerprint, letter->fingerprint, sizeof group->fingerprint);
    if (!group->queue || !group->event || !group->error || !group->handler) {
        free_group(group);
        return NULL;
    }
    return group;
}

static bool grow(struct lvt_letter_groups *groups) {
    if (!groups->buckets)
        groups->buckets = calloc(BUCKETS, sizeof(struct lvt_letter_group *));
    if (groups->count == groups->size) {
        size_t size = groups->size ? 2 * groups->size : 64;
        struct lvt_letter_group **items =
            realloc(groups->items, size * sizeof(struct lvt_letter_group *));
        if (!items)
            return false;
        groups->items = items;
        groups->size = size;
    }
    return groups->buckets != NULL;
}

enum leveret_code lvt_groups_add(struct lvt_letter_groups *groups, const char *dead_letter,
                                 const struct lvt_letter *letter, struct leveret_error *err) {
    if (!grow(groups))
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for groups of dead letters");
    uint32_t hash = hash_of(dead_letter, letter);
    struct lvt_letter_group **bucket = &groups->buckets[hash % BUCKETS], *group = *bucket;
    groups->letters++;
    while (group && !is_of(group, hash, dead_letter, letter))
        group = group->next;
    if (!group && groups->count == LVT_GROUPS_MAX) {
        groups->left_out++;
        return LEVERET_OK;
    }
    if (!group) {
        group = make_group(dead_letter, letter);
        if (!group)
            return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for groups of dead letters");
        group->hash = hash;
        group->next = *bucket;
        *bucket = group;
        groups->items[groups->count++] = group;
    }
    group->count++;
    if (letter->failed_at_s >= 0) {
        if (group->oldest_s < 0 || letter->failed_at_s < group->oldest_s)
            group->oldest_s = letter->failed_at_s;
        if (letter->failed_at_s > group->newest_s)
            group->newest_s = letter->failed_at_s;
    }
    return LEVERET_OK;
}

static int larger_first(const void *a, const void *b) {
    const struct lvt_letter_group *left = *(struct lvt_letter_group *const *)a;
    const struct lvt_letter_group *right = *(struct lvt_letter_group *const *)b;
    if (left->count != right->count)
        return left->count < right->count ? 1 : -1;
    int order = strcmp(left->queue, right->queue);
    if (order == 0)
        order = strcmp(left->event, right->event);
    return order ? order : strcmp(left->fingerprint, right->fingerprint);
}

void lvt_groups_sort(struct lvt_letter_groups *groups) {
    if (groups->count > 1)
        qsort(groups->items, groups->count, sizeof groups->items[0], larger_first);
}

void lvt_groups_free(struct lvt_letter_groups *groups) {
    for (size_t i = 0; i < groups->count; i++)
        free_group(groups->items[i]);
    free(groups->items);
    free(groups->buckets);
}
