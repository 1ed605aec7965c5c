#include "blackbox/blackbox.h"

#include <string.h>

#include "base/utf8.h"

/* Only what was used is touched: the rest of so large a struct never becomes memory. */
void lvt_blackbox_reset(struct lvt_blackbox *box, uint64_t hard_timeout_ms) {
    uint32_t rows = atomic_load(&box->running_top);
    for (size_t i = 0; i < LVT_SEATS_MAX; i++)
        if (atomic_load(&box->seats[i].turn) > 0 || atomic_load(&box->seats[i].taken))
            memset(&box->seats[i], 0, sizeof box->seats[i]);
    for (size_t i = 0; i < rows; i++)
        atomic_store(&box->running[i].used, false);
    box->hard_timeout_ms = hard_timeout_ms;
    box->unused = 0;
    box->failure.code = LEVERET_OK;
    box->opening[0] = '\0';
    atomic_store(&box->beats, 0);
    atomic_store(&box->in_flight, 0);
    atomic_store(&box->reloads, 0);
    atomic_store(&box->ready, false);
    atomic_store(&box->ended, false);
    atomic_store(&box->culprit, LVT_CULPRIT_UNKNOWN);
    atomic_store(&box->running_top, 0);
    atomic_store(&box->pardoned, 0);
}

struct lvt_running *lvt_blackbox_begin(struct lvt_blackbox *box) {
    uint32_t top = atomic_load_explicit(&box->running_top, memory_order_relaxed);
    if (box->unused > 0) {
        struct lvt_running *row = &box->running[box->unused - 1];
        box->unused = row->next;
        return row;
    }
    if (top == LVT_RUNNING_MAX)
        return NULL;
    atomic_store_explicit(&box->running_top, top + 1, memory_order_release);
    return &box->running[top];
}

void lvt_blackbox_end(struct lvt_blackbox *box, struct lvt_running *row) {
    atomic_store_explicit(&row->used, false, memory_order_release);
    row->next = box->unused;
    box->unused = (uint32_t)(row - box->running) + 1;
}

static void copy_cut(char *to, size_t size, struct lvt_bytes text) {
    size_t len = text.len < size ? text.len : lvt_utf8_cut(text.data, size - 1);
    if (len > 0)
        memcpy(to, text.data, len);
    to[len] = 0;
}

void lvt_subject_fill(struct lvt_subject *subject, struct lvt_bytes handler, struct lvt_bytes type,
                      struct lvt_bytes id) {
    copy_cut(subject->handler, sizeof subject->handler, handler);
    copy_cut(subject->type, sizeof subject->type, type);
    copy_cut(subject->id, sizeof subject->id, id);
}

void lvt_blackbox_pardon(struct lvt_blackbox *box, const unsigned char *key) {
    uint32_t count = atomic_load_explicit(&box->pardoned, memory_order_relaxed);
    memcpy(box->pardons[count % LVT_PARDONS_MAX], key, LVT_CHARGE_KEY_BYTES);
    atomic_store_explicit(&box->pardoned, count + 1, memory_order_release);
}
