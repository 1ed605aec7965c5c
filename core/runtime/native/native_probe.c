/* Tries a plugin where it can do no harm: a constructor that crashes, exits or hangs does so in a
 * child process.
 *
 * The child is a fork of a process that has threads. It calls what a fork may leave locked: malloc,
 * which glibc sees to, and dlopen, whose lock another thread may hold. Then it hangs, and is
 * stopped as one whose constructor hangs is; so a content is condemned when it has hung twice. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "runtime/native/native_library.h"

#define PROBE_MAX_MS 5000
/* Contents that died or hung are remembered for the process's life, the newest of them. */
#define FAILURES_MAX 256
/* Each holds up the thread that loads handlers, which may be a loop's. */
#define HANGS_MAX 2

struct failures {
    unsigned char hash[SHA256_DIGEST_SIZE];
    unsigned deaths, hangs;
};

static pthread_mutex_t failures_lock = PTHREAD_MUTEX_INITIALIZER;
static struct failures failures[FAILURES_MAX];
static unsigned failures_count;

/* NULL when it has none. With the lock held. */
static struct failures *failures_of(const unsigned char *hash) {
    unsigned count = failures_count < FAILURES_MAX ? failures_count : FAILURES_MAX;
    for (unsigned i = 0; i < count; i++)
        if (memcmp(failures[i].hash, hash, SHA256_DIGEST_SIZE) == 0)
            return &failures[i];
    return NULL;
}

static void remember(const unsigned char *hash, unsigned deaths, unsigned hangs) {
    pthread_mutex_lock(&failures_lock);
    struct failures *known = failures_of(hash);
    if (!known) {
        known = &failures[failures_count++ % FAILURES_MAX];
        *known = (struct failures){0};
        memcpy(known->hash, hash, SHA256_DIGEST_SIZE);
    }
    known->deaths += deaths;
    known->hangs += hangs;
    pthread_mutex_unlock(&failures_lock);
}

static enum leveret_code check_failures(const unsigned char *hash, struct leveret_error *err) {
    pthread_mutex_lock(&failures_lock);
    const struct failures *known = failures_of(hash);
    bool died = known && known->deaths > 0, hung = known && known->hangs >= HANGS_MAX;
    pthread_mutex_unlock(&failures_lock);
    if (died || hung)
        return leveret_fail(err, LEVERET_CONFIG,
                            "%s when it was tried before, and has not changed since",
                            died ? "died" : "hung");
    return LEVERET_OK;
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

enum ending { ANSWERED, SILENT, TIMED_OUT };

static enum ending read_answer(int fd, struct leveret_error *ret_result) {
    uint64_t deadline_ms = lvt_now_ms() + PROBE_MAX_MS;
    for (;;) {
        uint64_t now_ms = lvt_now_ms();
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        int ready = poll(&poll_fd, 1, now_ms < deadline_ms ? (int)(deadline_ms - now_ms) : 0);
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
    remember(copy->hash, ending == SILENT, ending == TIMED_OUT);
    return judge(ending, status, err);
}

enum leveret_code lvt_native_probe(const struct lvt_native_copy *copy, struct leveret_error *err) {
    int ends[2];
    enum leveret_code code = check_failures(copy->hash, err);
    if (code != LEVERET_OK)
        return code;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return leveret_fail(err, LEVERET_SYSTEM, "cannot be tried: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0)
        run_child(copy, ends[1]);
    close(ends[1]);
    code = child < 0 ? leveret_fail(err, LEVERET_SYSTEM, "cannot be tried: %s", strerror(errno))
                     : follow(child, ends[0], copy, err);
    close(ends[0]);
    return code;
}
