/* Appends each event to a file, a line of JSON each. An event is done when its line is on disk: a
 * thread writes and syncs all those that have come meanwhile, together. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "line.h"

/* Of one write. */
#define BATCH_BYTES ((size_t)4 * 1024 * 1024)
#define FILE_BYTES_LOW 4096
#define FILE_BYTES_HIGH ((int64_t)1 << 40)
#define FILE_BYTES_DEFAULT ((int64_t)256 * 1024 * 1024)

const struct leveret_host *host;

struct entry {
    struct entry *next;
    struct leveret_event event;
};

struct archive {
    struct leveret_handler *handler;
    pthread_t thread;
    pthread_mutex_t lock; /* over the next three */
    pthread_cond_t changed;
    struct entry *first, *last;
    bool closing;
    /* the thread's */
    struct files files;
    struct json_text batch;
    bool failing; /* has been logged */
};

static void tell(void *ctx, const char *text) {
    const struct archive *archive = ctx;
    host->log(archive->handler, LEVERET_LOG_WARN, text, NULL, 0);
}

/* ---- a batch ---- */

/* Writes what is in the batch but for its last `kept` bytes, which stay. */
static bool write_batch(struct archive *archive, const struct timespec *now, size_t kept,
                        char reason[FILES_TEXT_BYTES]) {
    struct json_text *batch = &archive->batch;
    size_t len = batch->len - kept;
    if (len == 0)
        return true;
    bool done = files_append(&archive->files, now, batch->data, len, reason);
    if (done == archive->failing) {
        const struct leveret_field field = leveret_field_text("reason", leveret_text_of(reason));
        host->log(archive->handler, done ? LEVERET_LOG_INFO : LEVERET_LOG_ERROR,
                  done ? "the archive can be written again" : "the archive cannot be written",
                  &field, done ? 0 : 1);
        archive->failing = !done;
    }
    memmove(batch->data, batch->data + len, kept);
    batch->len = kept;
    return done;
}

/* Of all entries from the first one up to, and without, the end. */
static void finish(struct entry *first, const struct entry *end, int32_t verdict,
                   const char *reason) {
    while (first != end) {
        struct entry *next = first->next;
        host->finish(first->event, verdict, reason, -1);
        free(first);
        first = next;
    }
}

static void flush(struct archive *archive, struct entry *first, const struct entry *end,
                  const struct timespec *now, size_t kept) {
    char reason[FILES_TEXT_BYTES];
    bool done = write_batch(archive, now, kept, reason);
    finish(first, end, done ? LEVERET_DONE : LEVERET_RETRY, done ? NULL : reason);
}

/* Appends the event's line. False: it is left out, for there is no memory. */
static bool add_line(struct json_text *batch, struct leveret_event event,
                     const struct timespec *now) {
    const struct leveret_event_info *info = host->info(event);
    size_t before = batch->len;
    if (info)
        line_append(batch, event, info, now);
    bool added = !batch->failed;
    if (!added)
        batch->len = before;
    batch->failed = false;
    return added;
}

/* Finishes all entries of the list. */
static void write_entries(struct archive *archive, struct entry *list) {
    struct json_text *batch = &archive->batch;
    size_t limit = BATCH_BYTES < archive->files.bytes_max ? BATCH_BYTES : archive->files.bytes_max;
    struct timespec now;
    struct entry *first = list, *next;
    clock_gettime(CLOCK_REALTIME, &now);
    for (struct entry *entry = list; entry; entry = next) {
        size_t before = batch->len;
        next = entry->next;
        if (!add_line(batch, entry->event, &now)) {
            flush(archive, first, entry, &now, 0);
            finish(entry, next, LEVERET_RETRY, "out of memory");
            first = next;
        } else if (batch->len > limit && before > 0) {
            flush(archive, first, entry, &now, batch->len - before);
            first = entry;
            clock_gettime(CLOCK_REALTIME, &now);
        }
    }
    if (first)
        flush(archive, first, NULL, &now, 0);
    if (batch->size > 2 * BATCH_BYTES) {
        free(batch->data);
        *batch = (struct json_text){0};
    }
}

/* ---- the thread ---- */

/* With the lock held: until there is something to do. A file is closed when its day is over, event
 * or no event. */
static void wait_for_work(struct archive *archive) {
    while (!archive->first && !archive->closing) {
        const struct timespec end = {.tv_sec = files_day_end(&archive->files)};
        if (end.tv_sec == 0)
            pthread_cond_wait(&archive->changed, &archive->lock);
        else if (pthread_cond_timedwait(&archive->changed, &archive->lock, &end) == ETIMEDOUT)
            files_close(&archive->files);
    }
}

static void *write_events(void *ctx) {
    struct archive *archive = ctx;
    pthread_mutex_lock(&archive->lock);
    for (;;) {
        wait_for_work(archive);
        struct entry *list = archive->first;
        if (!list)
            break;
        archive->first = archive->last = NULL;
        pthread_mutex_unlock(&archive->lock);
        write_entries(archive, list);
        pthread_mutex_lock(&archive->lock);
    }
    pthread_mutex_unlock(&archive->lock);
    files_close(&archive->files);
    return NULL;
}

/* The program's signals are not for this thread. */
static bool start_thread(struct archive *archive) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&archive->thread, NULL, write_events, archive);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failure == 0;
}

/* ---- the configuration ---- */

static bool read_dir(struct leveret_text config, char **ret_dir, char *error, size_t error_size) {
    char dir[PATH_MAX], text[FILES_TEXT_BYTES];
    int64_t len = host->json_string(config, "/dir", dir, sizeof dir);
    if (len <= 0 || len >= PATH_MAX || strlen(dir) != (size_t)len) {
        snprintf(error, error_size, "dir must name the folder of the archive");
        return false;
    }
    if (!files_check(dir, text)) {
        snprintf(error, error_size, "%s", text);
        return false;
    }
    *ret_dir = strdup(dir);
    if (!*ret_dir)
        snprintf(error, error_size, "out of memory");
    return *ret_dir != NULL;
}

static bool read_config(struct leveret_text config, struct files *files, char *error,
                        size_t error_size) {
    char name[64];
    int64_t bytes_max = FILE_BYTES_DEFAULT;
    for (size_t i = 0; host->json_member(config, "", i, name, sizeof name, NULL) >= 0; i++) {
        if (strcmp(name, "dir") != 0 && strcmp(name, "max_bytes") != 0) {
            snprintf(error, error_size, "unknown key \"%s\"; it has `dir` and `max_bytes`", name);
            return false;
        }
    }
    if (host->json_at(config, "/max_bytes", NULL) != LEVERET_JSON_MISSING &&
        (!host->json_integer(config, "/max_bytes", &bytes_max) || bytes_max < FILE_BYTES_LOW ||
         bytes_max > FILE_BYTES_HIGH)) {
        snprintf(error, error_size, "max_bytes must be a whole number from %d to %lld",
                 FILE_BYTES_LOW, (long long)FILE_BYTES_HIGH);
        return false;
    }
    files->bytes_max = (uint64_t)bytes_max;
    return read_dir(config, &files->dir, error, error_size);
}

/* ---- the plugin ---- */

static void free_archive(struct archive *archive) {
    pthread_mutex_destroy(&archive->lock);
    pthread_cond_destroy(&archive->changed);
    free(archive->files.dir);
    free(archive->batch.data);
    free(archive);
}

/* Makes and repairs nothing yet: `leveret check` opens plugins, too. */
static int32_t open_plugin(struct leveret_handler *handler, struct leveret_text config,
                           void **ret_self, char *error, size_t error_size) {
    struct archive *archive = calloc(1, sizeof *archive);
    if (!archive) {
        snprintf(error, error_size, "out of memory");
        return 1;
    }
    archive->handler = handler;
    archive->files.fd = archive->files.dir_fd = -1;
    archive->files.tell = tell;
    archive->files.ctx = archive;
    pthread_mutex_init(&archive->lock, NULL);
    pthread_cond_init(&archive->changed, NULL);
    if (!read_config(config, &archive->files, error, error_size)) {
        free_archive(archive);
        return 1;
    }
    if (!start_thread(archive)) {
        snprintf(error, error_size, "the system gives it no thread");
        free_archive(archive);
        return 1;
    }
    *ret_self = archive;
    return 0;
}

static int32_t handle(void *self, struct leveret_event event) {
    struct archive *archive = self;
    struct entry *entry = malloc(sizeof *entry);
    if (!entry)
        return host->finish(event, LEVERET_RETRY, "out of memory", -1);
    *entry = (struct entry){.event = event};
    pthread_mutex_lock(&archive->lock);
    if (archive->last)
        archive->last->next = entry;
    else
        archive->first = entry;
    archive->last = entry;
    pthread_cond_signal(&archive->changed);
    pthread_mutex_unlock(&archive->lock);
    return LEVERET_PENDING;
}

static void close_plugin(void *self) {
    struct archive *archive = self;
    pthread_mutex_lock(&archive->lock);
    archive->closing = true;
    pthread_cond_signal(&archive->changed);
    pthread_mutex_unlock(&archive->lock);
    pthread_join(archive->thread, NULL);
    free_archive(archive);
}

static const char *const events[] = {"#", NULL};

/* A full disk is nobody's fault, and may last: 1,000 attempts a minute apart are 16 hours. */
static const struct leveret_plugin plugin = {
    LEVERET_PLUGIN_HEAD,
    "archive",
    "1.0",
    events,
    "{\"concurrency\": 500, "
    "\"retry\": {\"max\": 1000, \"base_ms\": 1000, \"factor\": 2, \"cap_ms\": 60000}}",
    0,
    open_plugin,
    handle,
    close_plugin,
};

const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *the_host) {
    host = the_host;
    return &plugin;
}
