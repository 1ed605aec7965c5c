#include "runtime/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sha256.h"

#define READ_BYTES 16384

FILE *lvt_file_open(const char *path) {
    /* Opening a named pipe would wait for its writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    FILE *file = fdopen(fd, "rb");
    if (!file)
        close(fd);
    return file;
}

static void write_version(struct sha256_ctx *sha, char version[LVT_VERSION_SIZE]) {
    unsigned char digest[SHA256_DIGEST_SIZE];
    lvt_sha256_digest(sha, digest);
    for (int i = 0; i < (LVT_VERSION_SIZE - 1) / 2; i++)
        snprintf(version + (ptrdiff_t)2 * i, 3, "%02x", digest[i]);
}

void lvt_file_version(const void *content, size_t len, char ret_version[LVT_VERSION_SIZE]) {
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, len, content);
    write_version(&sha, ret_version);
}

static enum leveret_code read_version(FILE *file, const char *path, char *ret_version,
                                      struct leveret_error *err) {
    char chunk[READ_BYTES];
    struct sha256_ctx sha;
    struct stat info;
    size_t len;
    if (fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode))
        return leveret_fail(err, LEVERET_CONFIG, "cannot read %s: not a file", path);
    sha256_init(&sha);
    while ((len = fread(chunk, 1, sizeof chunk, file)) > 0)
        sha256_update(&sha, len, (const uint8_t *)chunk);
    if (ferror(file))
        return leveret_fail(err, LEVERET_CONFIG, "cannot read %s: %s", path, strerror(errno));
    write_version(&sha, ret_version);
    return LEVERET_OK;
}

enum leveret_code lvt_file_read_version(const char *path, char ret_version[LVT_VERSION_SIZE],
                                        struct leveret_error *err) {
    FILE *file = lvt_file_open(path);
    if (!file)
        return leveret_fail(err, errno == ENOENT ? LEVERET_UNAVAILABLE : LEVERET_CONFIG,
                            "cannot read %s: %s", path, strerror(errno));
    enum leveret_code code = read_version(file, path, ret_version, err);
    fclose(file);
    return code;
}

char *lvt_file_handler_name(const char *path, const char *suffix) {
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    size_t len = strlen(base), suffix_len = strlen(suffix);
    if (len > suffix_len && strcmp(base + len - suffix_len, suffix) == 0)
        len -= suffix_len;
    return strndup(base, len);
}
