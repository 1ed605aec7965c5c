#include "broker/oversize.h"

uint64_t lvt_oversize_room(const struct lvt_oversize *oversize) {
    bool full = oversize->count == LVT_OVERSIZE_COUNT_MAX;
    return full ? 0 : LVT_OVERSIZE_BYTES_MAX - oversize->bytes;
}

void lvt_oversize_keep(struct lvt_oversize *oversize, uint64_t tag, uint64_t bytes) {
    oversize->kept[oversize->count++] = (struct lvt_oversize_body){tag, bytes};
    oversize->bytes += bytes;
}

bool lvt_oversize_release(struct lvt_oversize *oversize, uint64_t tag) {
    for (size_t i = 0; i < oversize->count; i++) {
        if (oversize->kept[i].tag == tag) {
            oversize->bytes -= oversize->kept[i].bytes;
            oversize->kept[i] = oversize->kept[--oversize->count];
            return true;
        }
    }
    return false;
}

bool lvt_oversize_wait(struct lvt_oversize *oversize, uint64_t tag) {
    if (oversize->waiting_count == LVT_OVERSIZE_WAITING_MAX) {
        return false;
    }
    oversize->waiting[oversize->waiting_count++] = tag;
    return true;
}
