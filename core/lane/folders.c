#include "lane/folders.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/container.h"
#include "runtime/load.h"

/* A folder is left alone for the first of these after each change, but for the second at most. */
#define SETTLE_MS 100
#define SETTLE_MAX_MS 1000
/* How often what inotify does not tell is looked at: a folder that went and came back, and links
 * whose targets changed. */
#define LOOK_EVERY_MS 1000

#define EVENTS                                                                                     \
    (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF)

/* Which folder is watched, and how the links in it stand. */
struct view {
    dev_t device; /* both 0: there is none */
    ino_t inode;
    uint64_t links;
};

struct root {
    const char *path;
    char folder[PATH_MAX]; /* itself, or what a single file is in */
    int descriptor;        /* -1: it is not watched */
    struct view seen;
};

struct lvt_folders {
    struct lvt_folders_options options;
    int fd;
    uv_poll_t poll;
    struct lvt_timer settle, look;
    uint64_t first_change_ms; /* of those that are to settle; 0: there are none */
    bool refused;             /* a watch, which has been logged */
    size_t root_count;
    struct root roots[];
};

static uint64_t now_ms(const struct lvt_folders *folders) {
    return folders->options.loop->clock.now_ms(folders->options.loop->clock.self);
}

static void arm(struct lvt_folders *folders, struct lvt_timer *timer, uint64_t due_ms) {
    /* Without memory for it the next look, or the next change, makes up for it. */
    (void)lvt_timer_start(&folders->options.loop->timers, timer, due_ms);
}

static void note_change(struct lvt_folders *folders) {
    uint64_t now = now_ms(folders);
    if (folders->first_change_ms == 0)
        folders->first_change_ms = now;
    uint64_t last_ms = folders->first_change_ms + SETTLE_MAX_MS;
    arm(folders, &folders->settle, now + SETTLE_MS < last_ms ? now + SETTLE_MS : last_ms);
}

/* ---- what can be seen without being told ---- */

static uint64_t mix(uint64_t hash, uint64_t value) {
    return (hash ^ value) * UINT64_C(1099511628211); /* FNV */
}

static uint64_t add_link(uint64_t hash, int folder, const char *name) {
    struct stat target;
    hash = mix(hash, lvt_bytes_hash(lvt_bytes_of(name)));
    if (fstatat(folder, name, &target, 0) != 0)
        return mix(hash, 1);
    hash = mix(mix(hash, target.st_ino), (uint64_t)target.st_size);
    return mix(mix(hash, (uint64_t)target.st_mtim.tv_sec), (uint64_t)target.st_mtim.tv_nsec);
}

static bool is_link(int folder, const struct dirent *entry) {
    struct stat info;
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_LNK;
    return fstatat(folder, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(info.st_mode);
}

/* A change of order counts as a change of content: the comparison finds that there is none. */
static uint64_t read_links(const char *path) {
    uint64_t hash = 0;
    DIR *folder = opendir(path);
    const struct dirent *entry;
    while (folder && (entry = readdir(folder)))
        if (lvt_handler_is_file(entry->d_name) && is_link(dirfd(folder), entry))
            hash = add_link(hash, dirfd(folder), entry->d_name);
    if (folder)
        closedir(folder);
    return hash;
}

static struct view view_of(const struct root *root) {
    struct stat info, link;
    struct view view = {0};
    if (stat(root->folder, &info) != 0)
        return view;
    view.device = info.st_dev;
    view.inode = info.st_ino;
    if (strcmp(root->path, root->folder) == 0)
        view.links = read_links(root->folder);
    else if (lstat(root->path, &link) == 0 && S_ISLNK(link.st_mode))
        view.links = add_link(0, AT_FDCWD, root->path);
    return view;
}

static void drop_watch(struct lvt_folders *folders, struct root *root) {
    if (root->descriptor >= 0)
        (void)inotify_rm_watch(folders->fd, root->descriptor);
    root->descriptor = -1;
}

static void watch_root(struct lvt_folders *folders, struct root *root) {
    root->descriptor = inotify_add_watch(folders->fd, root->folder, EVENTS);
    if (root->descriptor >= 0 || errno == ENOENT || folders->refused)
        return;
    folders->refused = true;
    LVT_LOG(folders->options.log, LVT_WARN,
            "a folder of handlers cannot be watched: SIGHUP still reloads it",
            LVT_STRING("folder", root->folder), LVT_STRING("reason", strerror(errno)));
}

static void look_at(struct lvt_folders *folders, struct root *root) {
    struct view view = view_of(root);
    bool same_folder = view.device == root->seen.device && view.inode == root->seen.inode;
    if (!same_folder)
        drop_watch(folders, root);
    if (root->descriptor < 0 && view.inode != 0)
        watch_root(folders, root);
    if (!same_folder || view.links != root->seen.links)
        note_change(folders);
    root->seen = view;
}

static void look_due(struct lvt_timer *timer) {
    struct lvt_folders *folders = LVT_CONTAINER_OF(timer, struct lvt_folders, look);
    for (size_t i = 0; i < folders->root_count; i++)
        look_at(folders, &folders->roots[i]);
    arm(folders, timer, now_ms(folders) + LOOK_EVERY_MS);
}

static void settled(struct lvt_timer *timer) {
    struct lvt_folders *folders = LVT_CONTAINER_OF(timer, struct lvt_folders, settle);
    folders->first_change_ms = 0;
    folders->options.changed(folders->options.ctx);
}

/* ---- what inotify tells ---- */

/* A name with two dots is one of those that Kubernetes swaps the content of a ConfigMap with. A
 * file that was made says when it is complete; a link that was made is seen by the next look. */
static bool matters(const struct inotify_event *event) {
    const uint32_t always = IN_Q_OVERFLOW | IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF;
    if (event->mask & always)
        return true;
    if (event->len == 0)
        return false;
    return lvt_handler_is_file(event->name) || strncmp(event->name, "..", 2) == 0;
}

static bool is_of_a_single_file(const struct lvt_folders *folders,
                                const struct inotify_event *event) {
    for (size_t i = 0; i < folders->root_count && event->len > 0; i++) {
        const struct root *root = &folders->roots[i];
        const char *slash = strrchr(root->path, '/');
        if (root->descriptor == event->wd && strcmp(root->path, root->folder) != 0 &&
            strcmp(slash ? slash + 1 : root->path, event->name) == 0)
            return true;
    }
    return false;
}

static void take(struct lvt_folders *folders, const struct inotify_event *event) {
    for (size_t i = 0; i < folders->root_count && event->mask & IN_IGNORED; i++)
        if (folders->roots[i].descriptor == event->wd)
            folders->roots[i].descriptor = -1;
    if (matters(event) || is_of_a_single_file(folders, event))
        note_change(folders);
}

static void readable(uv_poll_t *poll, int status, int events) {
    struct lvt_folders *folders = poll->data;
    _Alignas(struct inotify_event) char buffer[16384];
    (void)status;
    (void)events;
    ssize_t count = read(folders->fd, buffer, sizeof buffer);
    for (ssize_t at = 0; at < count;) {
        const struct inotify_event *event = (const struct inotify_event *)(buffer + at);
        take(folders, event);
        at += (ssize_t)(sizeof *event + event->len);
    }
}

/* ---- beginning and end ---- */

static void set_folder(struct root *root, const char *path) {
    struct stat info;
    const char *slash = strrchr(path, '/');
    *root = (struct root){.path = path, .descriptor = -1};
    if (stat(path, &info) != 0 || S_ISDIR(info.st_mode))
        snprintf(root->folder, sizeof root->folder, "%s", path);
    else if (slash)
        snprintf(root->folder, sizeof root->folder, "%.*s", (int)(slash - path + 1), path);
    else
        snprintf(root->folder, sizeof root->folder, ".");
}

enum leveret_code lvt_folders_watch(const struct lvt_folders_options *options,
                                    struct lvt_folders **ret_folders, struct leveret_error *err) {
    size_t count = options->roots->count;
    struct lvt_folders *folders = calloc(1, sizeof *folders + count * sizeof folders->roots[0]);
    if (!folders)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    folders->options = *options;
    folders->root_count = count;
    folders->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (folders->fd < 0 || uv_poll_init(&options->loop->uv, &folders->poll, folders->fd) != 0) {
        leveret_fail(err, LEVERET_SYSTEM, "cannot watch folders: %s", strerror(errno));
        if (folders->fd >= 0)
            close(folders->fd);
        free(folders);
        return LEVERET_SYSTEM;
    }
    folders->poll.data = folders;
    uv_poll_start(&folders->poll, UV_READABLE, readable);
    folders->settle.fire = settled;
    folders->look.fire = look_due;
    for (size_t i = 0; i < count; i++)
        set_folder(&folders->roots[i], options->roots->items[i]);
    look_due(&folders->look); /* which finds every folder new */
    *ret_folders = folders;
    return LEVERET_OK;
}

static void closed(uv_handle_t *handle) {
    struct lvt_folders *folders = handle->data;
    close(folders->fd);
    free(folders);
}

void lvt_folders_close(struct lvt_folders *folders) {
    if (!folders)
        return;
    lvt_timer_stop(&folders->options.loop->timers, &folders->settle);
    lvt_timer_stop(&folders->options.loop->timers, &folders->look);
    uv_close((uv_handle_t *)&folders->poll, closed);
}
