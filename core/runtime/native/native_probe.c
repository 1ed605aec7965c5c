/* Tries a plugin where it can do no harm: a constructor that crashes, exits or hangs does so in a
 * child process.
 *
 * The child is a fork of a process that has threads. It calls what a fork may leave locked: malloc,
 * which glibc sees to, and dlopen, whose lock another thread may hold. Then it hangs, and is
 * stopped as one whose constructor hangs is; that alone condemns nobody. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/native/native_library.h"

#define PROBE_MAX_MS 5000
/* Contents that died are remembered for the process's life, the newest of them. */
#define REFUSED_MAX 256

static pthread_mutex_t refused_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char refused[REFUSED_MAX][LVT_SHA256_BYTES];
static unsigned refused_count;

static bool is_refused(const unsigned char *hash) {
    bool found = false;
    pthread_mutex_lock(&refused_lock);
    unsigned count = refused_count < REFUSED_MAX ? refused_count : REFUSED_MAX;
    for (unsigned i = 0; i < count && !found; i++)
        found = memcmp(refused[i], hash, LVT_SHA256_BYTES) == 0;
    pthread_mutex_unlock(&refused_lock);
    return found;
}

static void remember(const unsigned char *hash) {
    pthread_mutex_lock(&refused_lock);
    memcpy(refused[refused_count++ % REFUSED_MAX], hash, LVT_SHA256_BYTES);
    pthread_mutex_unlock(&refused_lock);
}

/* ---- the child ---- */

/* The program's handlers would do the program's things: wake its loop, for one. */
static void leave_the_program(void) {
    const struct rlimit no_core = {0, 0};
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setrlimit(RLIMIT_CORE, &no_core);
}

static _Noreturn void run_child(const struct lvt_native_copy *copy, int answer) {
    struct leveret_error result = {.code = LEVERET_OK};
    const struct leveret_plugin *plugin;
    void *library;
    leave_the_program();
    result.code = lvt_native_library_open(copy, &library, &plugin, &result);
    ssize_t written = write(answer, &result, sizeof result);
    _exit(written == (ssize_t)sizeof result ? 0 : 1);
}

/* ---- the parent ---- */

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

enum ending { ANSWERED, SILENT, TIMED_OUT };

static enum ending read_answer(int fd, struct leveret_error *ret_result) {
    int64_t deadline_ms = now_ms() + PROBE_MAX_MS;
    for (;;) {
        int64_t left_ms = deadline_ms - now_ms();
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        int ready = poll(&poll_fd, 1, left_ms > 0 ? (int)left_ms : 0);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return TIMED_OUT;
        /* Written at once, so it is read at once. */
        ssize_t count = read(fd, ret_result, sizeof *ret_result);
        if (count < 0 && errno == EINTR)
            continue;
        return count == (ssize_t)sizeof *ret_result ? ANSWERED : SILENT;
    }
}
_Static_assert(sizeof(struct leveret_error) <= 4096, "a pipe takes it as one piece");

static enum leveret_code judge(enum ending ending, int status, struct leveret_error *err) {
    if (ending == TIMED_OUT)
        return leveret_fail(err, LEVERET_CONFIG,
                            "did not come back from being loaded, in a child process, within %d s",
                            PROBE_MAX_MS / 1000);
    if (WIFSIGNALED(status)) {
        const char *name = sigdescr_np(WTERMSIG(status));
        return leveret_fail(err, LEVERET_CONFIG,
                            "died as it was loaded, in a child process: signal %d (%s); this "
                            "content of it is not tried again",
                            WTERMSIG(status), name ? name : "unknown");
    }
    return leveret_fail(err, LEVERET_CONFIG,
                        "ended the process as it was loaded, a child, with status %d; this content "
                        "of it is not tried again",
                        WEXITSTATUS(status));
}

static enum leveret_code follow(pid_t child, int answer, const struct lvt_native_copy *copy,
                                struct leveret_error *err) {
    struct leveret_error result;
    enum ending ending = read_answer(answer, &result);
    int status = 0;
    if (ending != SILENT)
        kill(child, SIGKILL); /* its answer is in, or never will be: what it does at its end may
                                 hang */
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (ending == ANSWERED)
        return result.code == LEVERET_OK ? LEVERET_OK
                                         : leveret_fail(err, result.code, "%s", result.text);
    if (ending == SILENT)
        remember(copy->hash);
    return judge(ending, status, err);
}

enum leveret_code lvt_native_probe(const struct lvt_native_copy *copy, struct leveret_error *err) {
    int ends[2];
    if (is_refused(copy->hash))
        return leveret_fail(err, LEVERET_CONFIG,
                            "died when it was tried before, and has not changed since");
    if (pipe2(ends, O_CLOEXEC) != 0)
        return leveret_fail(err, LEVERET_SYSTEM, "cannot be tried: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0)
        run_child(copy, ends[1]);
    close(ends[1]);
    enum leveret_code code =
        child < 0 ? leveret_fail(err, LEVERET_SYSTEM, "cannot be tried: %s", strerror(errno))
                  : follow(child, ends[0], copy, err);
    close(ends[0]);
    return code;
}
