#include "runtime/native/native_library.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "runtime/native/native_state.h"

#define FILE_MAX_BYTES ((off_t)256 * 1024 * 1024)
#define CHUNK_BYTES 65536
#define ENTRY "leveret_plugin_entry"

/* ---- the copy ---- */

static bool write_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t written = write(fd, data, len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        data += written;
        len -= (size_t)written;
    }
    return true;
}

static enum leveret_code copy_bytes(int from, struct lvt_native_copy *copy,
                                    struct leveret_error *err) {
    char chunk[CHUNK_BYTES];
    struct sha256_ctx sha;
    sha256_init(&sha);
    for (;;) {
        ssize_t count = read(from, chunk, sizeof chunk);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return leveret_fail(err, LEVERET_CONFIG, "cannot be read: %s", strerror(errno));
        if (count == 0)
            break;
        copy->size += (size_t)count;
        if (copy->size > (size_t)FILE_MAX_BYTES)
            return leveret_fail(err, LEVERET_CONFIG, "is larger than %d MiB",
                                (int)(FILE_MAX_BYTES >> 20));
        sha256_update(&sha, (size_t)count, (const uint8_t *)chunk);
        if (!write_all(copy->fd, chunk, (size_t)count))
            return leveret_fail(err, LEVERET_SYSTEM, "cannot be copied aside: %s", strerror(errno));
    }
    lvt_sha256_digest(&sha, copy->hash);
    return LEVERET_OK;
}

static enum leveret_code copy_stable(int from, struct lvt_native_copy *copy,
                                     struct leveret_error *err) {
    struct stat before, after;
    if (fstat(from, &before) != 0 || !S_ISREG(before.st_mode))
        return leveret_fail(err, LEVERET_CONFIG, "is no ordinary file");
    enum leveret_code code = copy_bytes(from, copy, err);
    if (code != LEVERET_OK)
        return code;
    if (fstat(from, &after) != 0 || after.st_size != (off_t)copy->size ||
        before.st_size != after.st_size || before.st_mtim.tv_sec != after.st_mtim.tv_sec ||
        before.st_mtim.tv_nsec != after.st_mtim.tv_nsec)
        return leveret_fail(err, LEVERET_CONFIG,
                            "was written to while it was read: write it elsewhere, and rename it");
    return LEVERET_OK;
}

enum leveret_code lvt_native_copy_make(const char *path, struct lvt_native_copy *ret_copy,
                                       struct leveret_error *err) {
    struct lvt_native_copy copy = {.fd = -1};
    /* Opening a named pipe would wait for its writer. */
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (from < 0)
        return leveret_fail(err, LEVERET_CONFIG, "cannot be opened: %s", strerror(errno));
    enum leveret_code code = LEVERET_OK;
    copy.fd = memfd_create("leveret-plugin", MFD_CLOEXEC);
    if (copy.fd < 0)
        code = leveret_fail(err, LEVERET_SYSTEM, "cannot be copied aside: %s", strerror(errno));
    else
        code = copy_stable(from, &copy, err);
    close(from);
    if (code == LEVERET_OK)
        *ret_copy = copy;
    else
        lvt_native_copy_close(&copy);
    return code;
}

void lvt_native_copy_close(struct lvt_native_copy *copy) {
    if (copy->fd >= 0)
        close(copy->fd);
    copy->fd = -1;
}

/* ---- its headers ---- */

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden"))); /* our own, by ld */

static bool inside(const struct lvt_native_copy *copy, uint64_t offset, uint64_t len) {
    return offset <= copy->size && len <= copy->size - offset;
}

static enum leveret_code check_header(const ElfW(Ehdr) * header, struct leveret_error *err) {
    const ElfW(Ehdr) *ours = &__ehdr_start;
    if (header->e_ident[EI_CLASS] != ours->e_ident[EI_CLASS] ||
        header->e_ident[EI_DATA] != ours->e_ident[EI_DATA] || header->e_machine != ours->e_machine)
        return leveret_fail(err, LEVERET_CONFIG,
                            "is built for another kind of machine (ELF machine %d, class %d; this "
                            "is machine %d, class %d): compile it for this one",
                            header->e_machine, header->e_ident[EI_CLASS], ours->e_machine,
                            ours->e_ident[EI_CLASS]);
    if (header->e_type != ET_DYN)
        return leveret_fail(err, LEVERET_CONFIG,
                            "is no shared object: link it with -shared and -fPIC");
    return LEVERET_OK;
}

/* The loader maps what the headers promise; to touch what is missing there is a SIGBUS. */
static bool is_whole(const struct lvt_native_copy *copy, const char *data) {
    const ElfW(Ehdr) *header = (const void *)data;
    uint64_t programs = (uint64_t)header->e_phnum * sizeof(ElfW(Phdr));
    uint64_t sections = (uint64_t)header->e_shnum * header->e_shentsize;
    if (header->e_phentsize != sizeof(ElfW(Phdr)) || header->e_phoff % _Alignof(ElfW(Phdr)) != 0 ||
        !inside(copy, header->e_phoff, programs) || !inside(copy, header->e_shoff, sections))
        return false;
    const ElfW(Phdr) *program = (const void *)(data + header->e_phoff);
    for (unsigned i = 0; i < header->e_phnum; i++)
        if (!inside(copy, program[i].p_offset, program[i].p_filesz))
            return false;
    return header->e_phnum > 0;
}

enum leveret_code lvt_native_copy_check(const struct lvt_native_copy *copy,
                                        struct leveret_error *err) {
    enum leveret_code code = LEVERET_OK;
    if (copy->size == 0)
        return leveret_fail(err, LEVERET_CONFIG, "is empty");
    char *data = mmap(NULL, copy->size, PROT_READ, MAP_PRIVATE, copy->fd, 0);
    if (data == MAP_FAILED)
        return leveret_fail(err, LEVERET_SYSTEM, "cannot be looked at: %s", strerror(errno));
    if (copy->size < SELFMAG || memcmp(data, ELFMAG, SELFMAG) != 0)
        code = leveret_fail(err, LEVERET_CONFIG,
                            "is no shared object (it does not begin as an ELF file)");
    else if (copy->size < sizeof(ElfW(Ehdr)))
        code = leveret_fail(err, LEVERET_CONFIG, "is cut short: the end of it is missing");
    else
        code = check_header((const void *)data, err);
    if (code == LEVERET_OK && !is_whole(copy, data))
        code = leveret_fail(err, LEVERET_CONFIG, "is cut short: the end of it is missing");
    munmap(data, copy->size);
    return code;
}

/* ---- the descriptor ---- */

static enum leveret_code check_version(const struct leveret_plugin *plugin,
                                       struct leveret_error *err) {
    if (plugin->size < offsetof(struct leveret_plugin, name))
        return leveret_fail(err, LEVERET_CONFIG,
                            "its descriptor has the wrong size, %zu bytes: begin it with "
                            "LEVERET_PLUGIN_HEAD",
                            plugin->size);
    if (plugin->major != LEVERET_PLUGIN_MAJOR || plugin->minor > LEVERET_PLUGIN_MINOR)
        return leveret_fail(
            err, LEVERET_CONFIG,
            "is built for version %u.%u of the plugin interface, and this is "
            "leveret " LEVERET_VERSION " with version %d.%d: %s",
            plugin->major, plugin->minor, LEVERET_PLUGIN_MAJOR, LEVERET_PLUGIN_MINOR,
            plugin->major < LEVERET_PLUGIN_MAJOR ? "compile it with this leveret's plugin.h"
                                                 : "a newer leveret is needed");
    if (plugin->size != sizeof *plugin)
        return leveret_fail(err, LEVERET_CONFIG,
                            "its descriptor has the wrong size, %zu bytes where version %u.%u has "
                            "%zu: begin it with LEVERET_PLUGIN_HEAD",
                            plugin->size, plugin->major, plugin->minor, sizeof *plugin);
    return LEVERET_OK;
}

static enum leveret_code check_members(const struct leveret_plugin *plugin,
                                       struct leveret_error *err) {
    const struct {
        const char *name;
        bool there;
    } needed[] = {{"name", plugin->name != NULL},     {"version", plugin->version != NULL},
                  {"events", plugin->events != NULL}, {"open", plugin->open != NULL},
                  {"handle", plugin->handle != NULL}, {"close", plugin->close != NULL}};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!needed[i].there)
            return leveret_fail(err, LEVERET_CONFIG, "its descriptor's %s is NULL", needed[i].name);
    if (!plugin->events[0])
        return leveret_fail(err, LEVERET_CONFIG, "its descriptor names no events");
    if (plugin->flags & ~LEVERET_PLUGIN_BLOCKING)
        return leveret_fail(err, LEVERET_CONFIG, "its descriptor has unknown flags, 0x%x",
                            plugin->flags);
    return LEVERET_OK;
}

enum leveret_code lvt_native_descriptor_check(const struct leveret_plugin *plugin,
                                              struct leveret_error *err) {
    enum leveret_code code = check_version(plugin, err);
    return code == LEVERET_OK ? check_members(plugin, err) : code;
}

static enum leveret_code ask_descriptor(void *library, const struct leveret_plugin **ret_plugin,
                                        struct leveret_error *err) {
    void *symbol = dlsym(library, ENTRY);
    const struct leveret_plugin *(*entry)(const struct leveret_host *host);
    if (!symbol)
        return leveret_fail(err, LEVERET_CONFIG,
                            "is no plugin: it exports no function " ENTRY
                            " (see LEVERET_PLUGIN_EXPORT)");
    memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast for it */
    const struct leveret_plugin *plugin = entry(&lvt_native_host);
    if (!plugin)
        return leveret_fail(err, LEVERET_CONFIG,
                            "will not run with leveret " LEVERET_VERSION
                            ", whose plugin interface is %d.%d: its " ENTRY " returned NULL",
                            LEVERET_PLUGIN_MAJOR, LEVERET_PLUGIN_MINOR);
    enum leveret_code code = lvt_native_descriptor_check(plugin, err);
    if (code == LEVERET_OK)
        *ret_plugin = plugin;
    return code;
}

/* ---- loading ---- */

#define SERIAL_BITS 32
#define PATH_BYTES (64 + 2 * SERIAL_BITS)

/* A name that was never used before: the dynamic loader takes one that it knows for the library
 * that it knows by it, which may be an earlier copy that cannot be unloaded, and whose descriptor's
 * number is ours now. A serial number is in the name, a slash or a slash and a dot for each bit of
 * it. */
static void write_path(int fd, char path[PATH_BYTES]) {
    static atomic_uint serial;
    unsigned bits = atomic_fetch_add(&serial, 1);
    struct lvt_buffer out;
    lvt_buffer_init_fixed(&out, path, PATH_BYTES);
    lvt_buffer_text(&out, "/proc/self/fd");
    for (int i = 0; i < SERIAL_BITS; i++)
        lvt_buffer_text(&out, bits >> i & 1 ? "/." : "/");
    lvt_buffer_printf(&out, "/%d", fd);
}

enum leveret_code lvt_native_library_open(const struct lvt_native_copy *copy, void **ret_library,
                                          const struct leveret_plugin **ret_plugin,
                                          struct leveret_error *err) {
    char path[PATH_BYTES];
    write_path(copy->fd, path);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        size_t len = strlen(path);
        if (why && strncmp(why, path, len) == 0 && strncmp(why + len, ": ", 2) == 0)
            why += len + 2;
        return leveret_fail(err, LEVERET_CONFIG, "cannot be loaded: %s", why ? why : "unknown");
    }
    enum leveret_code code = ask_descriptor(library, ret_plugin, err);
    if (code == LEVERET_OK)
        *ret_library = library;
    else
        dlclose(library);
    return code;
}
