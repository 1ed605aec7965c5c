#include "supervisor/charges_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sha256.h"

#define MAGIC                                                                                      \
    UINT32_C(0x4c565431) /* "LVT1" in this machine's order of bytes: files do not travel */
#define SUM_BYTES 16
/* Files of workers of one name beside each other. */
#define FILES_MAX 64
/* A file with this many more records than charges is written anew. */
#define STALE_MAX 1024
/* Read at once. */
#define READ_MAX 64

enum kind { CHARGED = 1, PARDONED = 2 };

struct record {
    uint32_t magic;
    uint32_t kind;
    unsigned char key[LVT_CHARGE_KEY_BYTES];
    uint32_t attempt;
    uint32_t crashes;
    int32_t detail;
    uint32_t death;
    unsigned char sum[SUM_BYTES]; /* of all that is before it */
};
_Static_assert(sizeof(struct record) == 56, "a record has no gaps");

struct lvt_charges_file {
    const struct lvt_log *log;
    char stem[PATH_MAX]; /* of the paths of all files of this name; "": nothing is kept */
    char path[PATH_MAX]; /* of this worker's, or of the last that was tried */
    int fd;              /* -1: there is no file yet */
    size_t records;      /* in the file */
    bool failing;        /* has been logged */
    size_t count;
    struct lvt_charge list[LVT_CHARGES_MAX];
};

/* ---- in memory ---- */

static struct lvt_charge *find(struct lvt_charges_file *file, const unsigned char *key) {
    for (size_t i = 0; i < file->count; i++)
        if (memcmp(file->list[i].key, key, LVT_CHARGE_KEY_BYTES) == 0)
            return &file->list[i];
    return NULL;
}

static void take_out(struct lvt_charges_file *file, struct lvt_charge *charge) {
    size_t behind = file->count - (size_t)(charge - file->list) - 1;
    memmove(charge, charge + 1, behind * sizeof *charge);
    file->count--;
}

/* Suspects go first: they may be many at once, and are suspects only. */
static void make_room(struct lvt_charges_file *file) {
    struct lvt_charge *oldest = file->list;
    for (size_t i = 0; i < file->count && oldest->crashes > 0; i++)
        if (file->list[i].crashes == 0)
            oldest = &file->list[i];
    take_out(file, oldest);
}

static struct lvt_charge *find_or_add(struct lvt_charges_file *file, const unsigned char *key) {
    struct lvt_charge *charge = find(file, key);
    if (charge)
        return charge;
    if (file->count == LVT_CHARGES_MAX)
        make_room(file);
    charge = &file->list[file->count++];
    *charge = (struct lvt_charge){.used = true};
    memcpy(charge->key, key, LVT_CHARGE_KEY_BYTES);
    return charge;
}

/* ---- records ---- */

static void sum(const struct record *record, unsigned char ret_sum[SUM_BYTES]) {
    unsigned char digest[SHA256_DIGEST_SIZE];
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, offsetof(struct record, sum), (const uint8_t *)record);
    lvt_sha256_digest(&sha, digest);
    memcpy(ret_sum, digest, SUM_BYTES);
}

static void fill(struct record *record, enum kind kind, const struct lvt_charge *charge) {
    *record = (struct record){.magic = MAGIC,
                              .kind = kind,
                              .attempt = charge->attempt,
                              .crashes = charge->crashes,
                              .detail = charge->detail,
                              .death = charge->death};
    memcpy(record->key, charge->key, sizeof record->key);
    sum(record, record->sum);
}

static bool is_whole(const struct record *record) {
    unsigned char expected[SUM_BYTES];
    sum(record, expected);
    return record->magic == MAGIC && memcmp(expected, record->sum, SUM_BYTES) == 0 &&
           record->death <= LVT_DEATH_HANG;
}

static void apply(struct lvt_charges_file *file, const struct record *record) {
    if (record->kind == PARDONED) {
        struct lvt_charge *charge = find(file, record->key);
        if (charge)
            take_out(file, charge);
        return;
    }
    struct lvt_charge *charge = find_or_add(file, record->key);
    charge->attempt = record->attempt;
    charge->crashes = record->crashes;
    charge->detail = record->detail;
    charge->death = (uint8_t)record->death;
}

/* ---- the file ---- */

static void complain(struct lvt_charges_file *file, const char *text, int error) {
    if (!file->failing)
        LVT_LOG(file->log, LVT_WARN, text, LVT_STRING("file", file->path),
                LVT_STRING("reason", strerror(error)));
    file->failing = true;
}

static bool write_whole(int fd, const void *data, size_t len) {
    const char *at = data;
    while (len > 0) {
        ssize_t written = write(fd, at, len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        at += written;
        len -= (size_t)written;
    }
    return true;
}

/* Makes the folder and those above it. */
static void make_folders(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        (void)mkdir(path, 0700);
        *slash = '/';
    }
}

static void set_path(struct lvt_charges_file *file, unsigned number) {
    if (snprintf(file->path, PATH_MAX, number > 1 ? "%s.%u.charges" : "%s.charges", file->stem,
                 number) >= PATH_MAX)
        file->path[0] = 0; /* which cannot be opened */
}

/* False with errno when it cannot be had; EWOULDBLOCK: another worker has it. */
static bool take(struct lvt_charges_file *file, int flags) {
    int fd = open(file->path, flags | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return false;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        file->fd = fd;
        return true;
    }
    int error = errno;
    close(fd);
    errno = error;
    return false;
}

/* A new one: what is there by now is another worker's, and was not read. */
static bool open_to_write(struct lvt_charges_file *file) {
    if (file->fd >= 0)
        return true;
    make_folders(file->stem);
    for (unsigned number = 1; number <= FILES_MAX; number++) {
        set_path(file, number);
        if (take(file, O_CREAT | O_EXCL))
            return true;
        if (errno != EEXIST && errno != EWOULDBLOCK)
            break;
    }
    complain(file, "charges cannot be kept, and are forgotten at the end", errno);
    return false;
}

/* Only what stands: beside the old file, then in its place. */
static void compact(struct lvt_charges_file *file) {
    char path[PATH_MAX];
    size_t records = 0;
    bool good = snprintf(path, sizeof path, "%s.new", file->path) < (int)sizeof path;
    int fd = good ? open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    good = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
    for (size_t i = 0; good && i < file->count; i++) {
        struct record record;
        if (file->list[i].crashes == 0)
            continue;
        fill(&record, CHARGED, &file->list[i]);
        good = write_whole(fd, &record, sizeof record);
        records++;
    }
    good = good && fsync(fd) == 0 && rename(path, file->path) == 0;
    if (!good) {
        complain(file, "the charges' file cannot be written anew", errno);
        if (fd >= 0) {
            (void)unlink(path);
            close(fd);
        }
        return;
    }
    close(file->fd);
    file->fd = fd;
    file->records = records;
}

/* Behind the last whole record: a torn one, of a crash or a full disk, is written over. */
static void append(struct lvt_charges_file *file, enum kind kind, const struct lvt_charge *charge) {
    struct record record;
    if (!file->stem[0] || !open_to_write(file))
        return;
    fill(&record, kind, charge);
    off_t end = (off_t)(file->records * sizeof record);
    if (lseek(file->fd, end, SEEK_SET) != end || !write_whole(file->fd, &record, sizeof record) ||
        fdatasync(file->fd) != 0) {
        complain(file, "a charge cannot be kept, and is forgotten at the end", errno);
        return;
    }
    file->failing = false;
    file->records++;
    if (file->records > file->count + STALE_MAX)
        compact(file);
}

/* As much as there is, up to a size; -1 with errno. */
static ssize_t read_whole(int fd, void *ret_data, size_t size) {
    size_t len = 0;
    while (len < size) {
        ssize_t more = read(fd, (char *)ret_data + len, size - len);
        if (more < 0 && errno == EINTR)
            continue;
        if (more < 0)
            return -1;
        if (more == 0)
            break;
        len += (size_t)more;
    }
    return (ssize_t)len;
}

/* False with errno when its end was not reached: what is behind that place may be charges, too. */
static bool read_records(struct lvt_charges_file *file) {
    struct record records[READ_MAX];
    size_t bad = 0;
    ssize_t len;
    do {
        len = read_whole(file->fd, records, sizeof records);
        if (len < 0)
            return false;
        for (size_t i = 0; i < (size_t)len / sizeof records[0]; i++) {
            file->records++;
            if (is_whole(&records[i]))
                apply(file, &records[i]);
            else
                bad++;
        }
    } while (len == (ssize_t)sizeof records);
    size_t torn = (size_t)len % sizeof records[0];
    if (torn > 0 || bad > 0)
        LVT_LOG(file->log, LVT_WARN, "the charges' file is damaged; what is whole counts",
                LVT_STRING("file", file->path), LVT_INTEGER("records", (int64_t)bad),
                LVT_INTEGER("torn_bytes", (int64_t)torn));
    return true;
}

/* The name is part of a file's: other characters than these are not. */
static void set_stem(struct lvt_charges_file *file, const char *folder, const char *name) {
    char plain[128];
    size_t len = 0;
    for (; name[len] && len < sizeof plain - 1; len++) {
        char c = name[len];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '_';
        plain[len] = c;
        if (!good)
            plain[len] = '_';
    }
    plain[len] = 0;
    if (snprintf(file->stem, PATH_MAX, "%s/%s", folder, plain) >= PATH_MAX)
        file->stem[0] = 0;
}

/* It is left as it is. */
static void give_up(struct lvt_charges_file *file) {
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
    file->records = 0;
}

/* The first that nobody has, and that can be read. */
static void open_one(struct lvt_charges_file *file) {
    for (unsigned number = 1; number <= FILES_MAX; number++) {
        set_path(file, number);
        if (take(file, 0) && read_records(file))
            return;
        int error = errno;
        give_up(file);
        if (error == ENOENT)
            return;
        if (error != EWOULDBLOCK)
            complain(file, "the charges' file cannot be read", error);
    }
}

enum leveret_code lvt_charges_file_open(const char *folder, const char *name,
                                        const struct lvt_log *log,
                                        struct lvt_charges_file **ret_file,
                                        struct leveret_error *err) {
    struct lvt_charges_file *file = calloc(1, sizeof *file);
    if (!file)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the charges");
    file->log = log;
    file->fd = -1;
    if (folder) {
        set_stem(file, folder, name);
        open_one(file);
    }
    *ret_file = file;
    return LEVERET_OK;
}

void lvt_charges_file_close(struct lvt_charges_file *file) {
    if (file && file->fd >= 0)
        close(file->fd);
    free(file);
}

const struct lvt_charge *lvt_charges_file_list(const struct lvt_charges_file *file,
                                               size_t *ret_count) {
    *ret_count = file->count;
    return file->list;
}

struct lvt_charge lvt_charges_file_charge(struct lvt_charges_file *file, const unsigned char *key,
                                          uint32_t attempt, enum lvt_death death, int detail) {
    struct lvt_charge *charge = find_or_add(file, key);
    if (charge->attempt < attempt)
        charge->attempt = attempt;
    charge->crashes++;
    charge->death = (uint8_t)death;
    charge->detail = detail;
    append(file, CHARGED, charge);
    return *charge;
}

void lvt_charges_file_suspect(struct lvt_charges_file *file, const unsigned char *key) {
    (void)find_or_add(file, key);
}

bool lvt_charges_file_pardon(struct lvt_charges_file *file, const unsigned char *key) {
    struct lvt_charge *charge = find(file, key);
    if (!charge)
        return false;
    struct lvt_charge pardoned = *charge;
    take_out(file, charge);
    if (pardoned.crashes > 0)
        append(file, PARDONED, &pardoned);
    return true;
}
