/* Watches the folders of handlers, through inotify itself: libuv's file events do not tell when a
 * file that was written is closed. */
#ifndef LEVERET_LANE_FOLDERS_H
#define LEVERET_LANE_FOLDERS_H

#include "base/log.h"
#include "config/options.h"
#include "lane/loop.h"

struct lvt_folders;

struct lvt_folders_options {
    const struct lvt_strings *roots; /* folders and single files; outlive the watch */
    struct lvt_loop *loop;
    const struct lvt_log *log;
    /* Something may have changed, and nothing has for a moment. */
    void (*changed)(void *ctx);
    void *ctx;
};

/* Begins with one call of `changed`, for what happened before. LEVERET_SYSTEM: the system has no
 * watch to give. */
enum leveret_code lvt_folders_watch(const struct lvt_folders_options *options,
                                    struct lvt_folders **ret_folders,
                                    struct leveret_error *err) LVT_MUST_CHECK;
/* The loop frees it. NULL is fine. */
void lvt_folders_close(struct lvt_folders *folders);

#endif
