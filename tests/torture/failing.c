/* Both names of a function that takes an offset are stood before. */
#undef _FILE_OFFSET_BITS

#include "failing.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *memory);

static atomic_uint_fast64_t counts[FAILING_KINDS];
static atomic_uint_fast64_t fail_at[FAILING_KINDS]; /* 0: never */
static atomic_bool counting;
/* What this thread calls while it looks for a function is not the program's. */
static _Thread_local bool looking __attribute__((tls_model("initial-exec")));
static atomic_int_fast64_t live;
static char what[160];

void failing_begin(enum failing_kind kind, uint64_t nth) {
    for (int i = 0; i < FAILING_KINDS; i++) {
        atomic_store(&counts[i], 0);
        atomic_store(&fail_at[i], (enum failing_kind)i == kind ? nth : 0);
    }
    what[0] = '\0';
    atomic_store(&counting, true);
}

void failing_end(void) {
    atomic_store(&counting, false);
}

uint64_t failing_count(enum failing_kind kind) {
    return atomic_load(&counts[kind]);
}

const char *failing_what(void) {
    return what;
}

int64_t failing_live(void) {
    return atomic_load(&live);
}

/* Whether this very call is the one. */
static bool is_due(enum failing_kind kind) {
    return atomic_load(&counting) && !looking &&
           atomic_fetch_add(&counts[kind], 1) + 1 == atomic_load(&fail_at[kind]);
}

/* ---- memory ---- */

/* Who asked, so that a failure can be found again. Allocates nothing itself. */
static void note_memory(const char *call, size_t size, const void *caller) {
    Dl_info info;
    bool known = dladdr(caller, &info) != 0;
    const char *file = known && info.dli_fname ? strrchr(info.dli_fname, '/') : NULL;
    snprintf(what, sizeof what, "%s(%zu) in %s, %s +0x%tx", call, size, file ? file + 1 : "?",
             known && info.dli_sname ? info.dli_sname : "?",
             known ? (const char *)caller - (const char *)info.dli_fbase : 0);
}

static bool no_memory(const char *call, size_t size, const void *caller) {
    if (!is_due(FAILING_MEMORY))
        return false;
    note_memory(call, size, caller);
    errno = ENOMEM;
    return true;
}

static void *counted(void *memory) {
    if (memory)
        atomic_fetch_add(&live, 1);
    return memory;
}

void *malloc(size_t size) {
    if (no_memory("malloc", size, __builtin_return_address(0)))
        return NULL;
    return counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size) {
    if (no_memory("calloc", count * size, __builtin_return_address(0)))
        return NULL;
    return counted(__libc_calloc(count, size));
}

void *realloc(void *memory, size_t size) {
    if (size > 0 && no_memory("realloc", size, __builtin_return_address(0)))
        return NULL;
    void *moved = __libc_realloc(memory, size);
    if (!memory)
        return counted(moved);
    if (!moved && size == 0)
        atomic_fetch_sub(&live, 1);
    return moved;
}

void free(void *memory) {
    if (memory)
        atomic_fetch_sub(&live, 1);
    __libc_free(memory);
}

void *memalign(size_t alignment, size_t size);
void *memalign(size_t alignment, size_t size) {
    if (no_memory("memalign", size, __builtin_return_address(0)))
        return NULL;
    return counted(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size) {
    return memalign(alignment, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size) {
    void *memory = memalign(alignment, size);
    if (!memory)
        return ENOMEM;
    *ret = memory;
    return 0;
}

/* Says who gave up. The address of the caller is enough to know the library. */
void abort(void) {
    Dl_info info;
    char line[300];
    bool known = dladdr(__builtin_return_address(0), &info) != 0;
    int len = snprintf(line, sizeof line, "aborted by %s (%s) after %s\n",
                       known && info.dli_fname ? info.dli_fname : "?",
                       known && info.dli_sname ? info.dli_sname : "?", what);
    if (write(STDERR_FILENO, line, (size_t)len) < 0)
        _exit(FAILING_ABORTED + 1);
    _exit(FAILING_ABORTED);
}

/* ---- system calls ---- */

/* The next definition of a function: the one that this file stands before. */
static void *next(const char *name) {
    looking = true; /* dlsym may allocate */
    void *function = dlsym(RTLD_NEXT, name);
    looking = false;
    return function;
}

/* With each failure another of the errors that the call can have. */
static bool broken(const char *call, const int *errors, size_t error_count) {
    if (!is_due(FAILING_SYSTEM))
        return false;
    errno = errors[atomic_load(&fail_at[FAILING_SYSTEM]) % error_count];
    int error = errno;
    snprintf(what, sizeof what, "%s: %s", call, strerrorname_np(error));
    errno = error;
    return true;
}

#define BROKEN(call, ...)                                                                          \
    broken(call, (const int[]){__VA_ARGS__}, sizeof((int[]){__VA_ARGS__}) / sizeof(int))

#define FAILS(type, name, parameters, arguments, failure, ...)                                     \
    type name parameters {                                                                         \
        static type(*real) parameters;                                                             \
        if (!real)                                                                                 \
            real = (type(*) parameters)next(#name);                                                \
        if (BROKEN(#name, __VA_ARGS__))                                                            \
            return failure;                                                                        \
        return real arguments;                                                                     \
    }

/* A connection that is said to be over is over: libpq keeps a failed write to itself until it reads
 * the end. */
static void end_link(int fd) {
    int error = errno;
    if (error == ECONNRESET || error == EPIPE || error == ETIMEDOUT)
        shutdown(fd, SHUT_RDWR);
    errno = error;
}

#define BREAKS(name, parameters, arguments, ...)                                                   \
    ssize_t name parameters {                                                                      \
        static ssize_t(*real) parameters;                                                          \
        if (!real)                                                                                 \
            real = (ssize_t(*) parameters)next(#name);                                             \
        if (!BROKEN(#name, __VA_ARGS__))                                                           \
            return real arguments;                                                                 \
        end_link(fd);                                                                              \
        return -1;                                                                                 \
    }

FAILS(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size), -1, EINTR, EIO, EAGAIN)
FAILS(ssize_t, pread64, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at), -1,
      EINTR, EIO)
FAILS(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), -1, EINTR, ENOSPC)
BREAKS(readv, (int fd, const struct iovec *list, int count), (fd, list, count), EINTR, ECONNRESET)
BREAKS(writev, (int fd, const struct iovec *list, int count), (fd, list, count), EINTR, ECONNRESET,
       EPIPE)
BREAKS(send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags), EINTR,
       ECONNRESET, EPIPE)
BREAKS(sendto,
       (int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t len),
       (fd, data, size, flags, to, len), EINTR, ECONNRESET)
BREAKS(sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags), EINTR,
       ECONNRESET, ENOBUFS)
BREAKS(recv, (int fd, void *data, size_t size, int flags), (fd, data, size, flags), EINTR,
       ECONNRESET, ETIMEDOUT)
BREAKS(recvfrom,
       (int fd, void *data, size_t size, int flags, struct sockaddr *from, socklen_t *len),
       (fd, data, size, flags, from, len), EINTR, ECONNRESET)
BREAKS(recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags), EINTR,
       ECONNRESET)
FAILS(int, socket, (int family, int type, int protocol), (family, type, protocol), -1, EMFILE,
      ENFILE, ENOBUFS)
FAILS(int, connect, (int fd, const struct sockaddr *to, socklen_t len), (fd, to, len), -1,
      ECONNREFUSED, EINTR, ENETUNREACH, EADDRNOTAVAIL)
FAILS(int, bind, (int fd, const struct sockaddr *to, socklen_t len), (fd, to, len), -1, EADDRINUSE)
FAILS(int, listen, (int fd, int backlog), (fd, backlog), -1, EADDRINUSE)
FAILS(int, accept4, (int fd, struct sockaddr *from, socklen_t *len, int flags),
      (fd, from, len, flags), -1, EMFILE, ECONNABORTED, EINTR)
FAILS(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len),
      (fd, level, name, value, len), -1, ENOBUFS, ENOMEM)
FAILS(int, getsockname, (int fd, struct sockaddr *name, socklen_t *len), (fd, name, len), -1,
      ENOBUFS)
FAILS(int, epoll_create1, (int flags), (flags), -1, EMFILE, ENOMEM)
FAILS(int, epoll_ctl, (int fd, int operation, int target, struct epoll_event *event),
      (fd, operation, target, event), -1, ENOMEM, ENOSPC)
FAILS(int, epoll_wait, (int fd, struct epoll_event *list, int count, int timeout_ms),
      (fd, list, count, timeout_ms), -1, EINTR)
FAILS(int, epoll_pwait,
      (int fd, struct epoll_event *list, int count, int timeout_ms, const sigset_t *mask),
      (fd, list, count, timeout_ms, mask), -1, EINTR)
FAILS(int, eventfd, (unsigned start, int flags), (start, flags), -1, EMFILE, ENOMEM)
FAILS(int, timerfd_create, (int clock, int flags), (clock, flags), -1, EMFILE)
FAILS(int, inotify_init1, (int flags), (flags), -1, EMFILE)
FAILS(int, inotify_add_watch, (int fd, const char *path, uint32_t mask), (fd, path, mask), -1,
      ENOSPC, ENOMEM)
FAILS(int, memfd_create, (const char *name, unsigned flags), (name, flags), -1, EMFILE, ENOMEM)
FAILS(int, ftruncate64, (int fd, off64_t size), (fd, size), -1, ENOSPC, EINTR)
FAILS(int, pipe2, (int fds[2], int flags), (fds, flags), -1, EMFILE)
FAILS(int, poll, (struct pollfd * list, nfds_t count, int timeout_ms), (list, count, timeout_ms),
      -1, EINTR, ENOMEM)
/* What poll() is called where the compiler checks sizes. */
int __poll_chk(struct pollfd *list, nfds_t count, int timeout_ms, size_t size);
FAILS(int, __poll_chk, (struct pollfd * list, nfds_t count, int timeout_ms, size_t size),
      (list, count, timeout_ms, size), -1, EINTR, ENOMEM)
FAILS(int, fsync, (int fd), (fd), -1, EIO, ENOSPC)
FAILS(int, fdatasync, (int fd), (fd), -1, EIO, ENOSPC)
FAILS(int, flock, (int fd, int operation), (fd, operation), -1, EINTR, ENOLCK)
FAILS(int, rename, (const char *from, const char *to), (from, to), -1, ENOSPC, EACCES)
FAILS(int, mkdir, (const char *path, mode_t mode), (path, mode), -1, ENOSPC, EACCES)
FAILS(int, stat, (const char *restrict path, struct stat *restrict ret), (path, ret), -1, EACCES,
      ENOMEM)
FAILS(int, lstat, (const char *restrict path, struct stat *restrict ret), (path, ret), -1, EACCES,
      ENOMEM)
FAILS(int, fstat, (int fd, struct stat *ret), (fd, ret), -1, EIO, ENOMEM)
FAILS(int, fstatat, (int fd, const char *restrict path, struct stat *restrict ret, int flags),
      (fd, path, ret, flags), -1, EACCES, ENOMEM)
FAILS(DIR *, opendir, (const char *path), (path), NULL, EMFILE, EACCES, ENOMEM)
FAILS(int, getsockopt, (int fd, int level, int name, void *restrict value, socklen_t *restrict len),
      (fd, level, name, value, len), -1, ENOBUFS)
FAILS(int, socketpair, (int family, int type, int protocol, int fds[2]),
      (family, type, protocol, fds), -1, EMFILE, ENOBUFS)
FAILS(int, signalfd, (int fd, const sigset_t *mask, int flags), (fd, mask, flags), -1, EMFILE,
      ENOMEM)
FAILS(int, sigaltstack, (const stack_t *restrict stack, stack_t *restrict ret), (stack, ret), -1,
      ENOMEM)
FAILS(int, timer_create, (clockid_t clock, struct sigevent *restrict event, timer_t *restrict ret),
      (clock, event, ret), -1, EAGAIN, ENOMEM)
FAILS(int, timer_settime,
      (timer_t timer, int flags, const struct itimerspec *restrict to,
       struct itimerspec *restrict ret),
      (timer, flags, to, ret), -1, EINVAL)
FAILS(pid_t, waitpid, (pid_t pid, int *status, int options), (pid, status, options), -1, EINTR)
FAILS(int, kill, (pid_t pid, int number), (pid, number), -1, EPERM)
FAILS(off64_t, lseek64, (int fd, off64_t offset, int whence), (fd, offset, whence), -1, EIO)
FAILS(ssize_t, getrandom, (void *data, size_t size, unsigned flags), (data, size, flags), -1, EINTR,
      EAGAIN)
FAILS(void *, mmap64, (void *at, size_t size, int protection, int flags, int fd, off64_t offset),
      (at, size, protection, flags, fd, offset), MAP_FAILED, ENOMEM)
FAILS(void *, mmap, (void *at, size_t size, int protection, int flags, int fd, off_t offset),
      (at, size, protection, flags, fd, offset), MAP_FAILED, ENOMEM)
FAILS(void *, dlopen, (const char *path, int flags), (path, flags), NULL, ENOMEM)

static bool spares_children;

pid_t fork(void) {
    static pid_t (*real)(void);
    if (!real)
        real = (pid_t(*)(void))next("fork");
    if (BROKEN("fork", EAGAIN, ENOMEM))
        return -1;
    pid_t pid = real();
    if (pid == 0 && spares_children)
        failing_end();
    return pid;
}

int pthread_create(pthread_t *ret, const pthread_attr_t *options, void *(*run)(void *), void *ctx) {
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!real)
        real = (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))next(
            "pthread_create");
    return BROKEN("pthread_create", EAGAIN, ENOMEM) ? errno : real(ret, options, run, ctx);
}

int getaddrinfo(const char *restrict host, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict ret) {
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (!real)
        real = (int (*)(const char *, const char *, const struct addrinfo *,
                        struct addrinfo **))next("getaddrinfo");
    return BROKEN("getaddrinfo", EAGAIN) ? EAI_AGAIN : real(host, service, hints, ret);
}

static int open_with(const char *name, int (*real)(const char *, int, ...), const char *path,
                     int flags, mode_t mode) {
    return BROKEN(name, EMFILE, ENFILE, EINTR) ? -1 : real(path, flags, mode);
}

#define OPENS(name)                                                                                \
    int name(const char *path, int flags, ...) {                                                   \
        static int (*real)(const char *, int, ...);                                                \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;               \
        va_end(arguments);                                                                         \
        if (!real)                                                                                 \
            real = (int (*)(const char *, int, ...))next(#name);                                   \
        return open_with(#name, real, path, flags, mode);                                          \
    }

OPENS(open)
OPENS(open64)

/* ---- preloaded ---- */

static pid_t preloaded_pid;

static void crashed(int number) {
    void *frames[40];
    failing_end();
    int count = backtrace(frames, 40);
    if (write(STDERR_FILENO, "crashed after ", 14) > 0 &&
        write(STDERR_FILENO, what, strlen(what)) > 0 && write(STDERR_FILENO, "\n", 1) > 0)
        backtrace_symbols_fd(frames, count, STDERR_FILENO);
    raise(number); /* which has its usual effect again */
}

__attribute__((constructor)) static void preloaded(void) {
    const char *order = getenv("TORTURE_FAIL");
    if (!order)
        return;
    const struct sigaction action = {.sa_handler = crashed,
                                     .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)};
    void *frame;
    sigaction(SIGSEGV, &action, NULL);
    (void)backtrace(&frame, 1); /* loads what it needs while there is memory */
    bool memory = strncmp(order, "memory:", 7) == 0;
    preloaded_pid = getpid();
    spares_children = getenv("TORTURE_SPARES_CHILDREN") != NULL;
    failing_begin(memory ? FAILING_MEMORY : FAILING_SYSTEM, strtoull(order + 7, NULL, 10));
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("TORTURE_REPORT");
    if (!path || getpid() != preloaded_pid)
        return;
    failing_end();
    int64_t left = failing_live();
    FILE *file = fopen(path, "w");
    if (file) {
        fprintf(file, "%llu %llu %lld %s\n", (unsigned long long)failing_count(FAILING_MEMORY),
                (unsigned long long)failing_count(FAILING_SYSTEM), (long long)left, what);
        fclose(file);
    }
}
