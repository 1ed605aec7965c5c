/* The real engine, over the ports in memory, with a Lua handler and a plugin, in which one call
 * fails: the first, the second, and so on, until a run comes to its end without. Each run is a
 * process of its own, which must not crash, must give back what it took, and must settle every
 * event, or say that it could not go on.
 *
 * usage: torture memory|system [STEP]     every STEP-th call only
 *        torture memory|system =N         that one, with its log */
#include <openssl/err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/config.h"
#include "failing.h"
#include "worker/worker.h"

#define RUN_S 10

/* How a run ended, beyond an exit code that says "as it should". */
enum { RUN_GOOD, RUN_WITHOUT_FAILURE, RUN_GAVE_UP, RUN_LOST = 10, RUN_LEAKED, RUN_HUNG };

static const char *const events[] = {
    ("{\"id\": \"1\", \"event\": \"order.placed\", \"payload\": {\"act\": \"effects\", \"list\": "
     "[1, \"two\", null]}}"),
    "{\"id\": \"2\", \"event\": \"order.placed\", \"payload\": {\"act\": \"retry\"}}",
    "{\"id\": \"3\", \"event\": \"order.paid\", \"payload\": {\"act\": \"snooze\"}}",
    "{\"id\": \"4\", \"event\": \"order.paid\", \"payload\": {\"act\": \"reject\"}}",
    "{\"id\": \"5\", \"event\": \"order.paid\", \"payload\": {\"act\": \"drop\"}}",
    "{\"id\": \"6\", \"event\": \"order.paid\", \"payload\": {\"act\": \"fail\"}}",
    "{\"id\": \"7\", \"event\": \"act\", \"payload\": {\"do\": \"drop\"}}",
    "{\"id\": \"8\", \"event\": \"act\", \"payload\": {\"do\": \"retry\"}}",
    "{\"id\": \"9\", \"event\": \"act\", \"payload\": {\"do\": \"ask\"}}",
    "{\"id\": \"10\", \"event\": \"act\", \"payload\": {\"do\": \"done\"}}",
};
#define EVENT_COUNT (sizeof events / sizeof *events)

static bool loud;

/* Which events have been settled, by the log's word. */
struct settled {
    bool ids[EVENT_COUNT + 1];
};

static bool is_final(const char *text) {
    return strcmp(text, "processed") == 0 || strcmp(text, "dropped") == 0 ||
           strcmp(text, "already processed, skipped") == 0 ||
           strncmp(text, "dead-lettered to", 16) == 0;
}

static void note(void *ctx, enum lvt_level level, const char *text, const struct lvt_field *fields,
                 size_t count) {
    struct settled *settled = ctx;
    if (loud)
        fprintf(stderr, "%d %s", level, text);
    for (size_t i = 0; i < count; i++) {
        if (loud && fields[i].kind == LVT_FIELD_TEXT)
            fprintf(stderr, " %s=%.*s", fields[i].key, (int)fields[i].value.text.len,
                    fields[i].value.text.data);
        if (strcmp(fields[i].key, "id") == 0 && is_final(text)) {
            size_t id = (size_t)atoi(fields[i].value.text.data);
            if (id <= EVENT_COUNT)
                settled->ids[id] = true;
        }
    }
    if (loud)
        fputc('\n', stderr);
}

static int open_input(void) {
    int fd = memfd_create("events", 0);
    for (size_t i = 0; i < EVENT_COUNT; i++)
        dprintf(fd, "%s\n", events[i]);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static enum leveret_code configure(struct lvt_config *config, struct leveret_error *err) {
    static const char *const settings[] = {"LEVERET_HANDLERS=" TORTURE_HANDLERS "," TORTURE_PLUGINS,
                                           "LEVERET_RABBITMQ_EXCHANGE=shop",
                                           "LEVERET_DEAD_LETTER_QUEUE=dead", NULL};
    enum leveret_code code = lvt_config_init(config, err);
    if (code == LEVERET_OK)
        code = lvt_config_environment(config, (char **)(uintptr_t)settings, err);
    return code == LEVERET_OK ? lvt_config_check(config, err) : code;
}

/* One run, from the configuration to its end. */
static enum leveret_code run(struct settled *settled, int input, struct leveret_error *err) {
    const struct lvt_log log = {note, settled, LVT_DEBUG};
    struct lvt_config config = {0};
    struct leveret_worker *worker = NULL;
    enum leveret_code code = configure(&config, err);
    if (code == LEVERET_OK)
        code = lvt_worker_new(&config, &log, &worker, err);
    if (code == LEVERET_OK)
        code = lvt_worker_run_embedded(worker, input, err);
    leveret_worker_free(worker);
    lvt_config_free(&config);
    return code;
}

static int judge(enum leveret_code code, const struct leveret_error *err,
                 const struct settled *settled) {
    if (code != LEVERET_OK) {
        if (loud)
            fprintf(stderr, "error: %s\n", err->text);
        return err->text[0] ? RUN_GAVE_UP : RUN_LOST;
    }
    for (size_t id = 1; id <= EVENT_COUNT; id++)
        if (!settled->ids[id]) {
            fprintf(stderr, "event %zu was not settled, after %s\n", id, failing_what());
            return RUN_LOST;
        }
    return failing_what()[0] ? RUN_GOOD : RUN_WITHOUT_FAILURE;
}

static void hung(int number) {
    (void)number;
    const char *call = failing_what();
    if (write(STDERR_FILENO, "hung after ", 11) < 0 ||
        write(STDERR_FILENO, call, strlen(call)) < 0 || write(STDERR_FILENO, "\n", 1) < 0)
        _exit(RUN_LOST);
    _exit(RUN_HUNG);
}

/* OpenSSL, whose tables are made when a library first asks for it, leaks when it, or its fopen,
 * finds no memory. */
static bool is_theirs(void) {
    return strstr(failing_what(), " in libcrypto.") || strstr(failing_what(), " in libssl.") ||
           strstr(failing_what(), "malloc(472) in libc.");
}

static int child(enum failing_kind kind, uint64_t nth, int64_t live_at_end) {
    struct settled settled = {0};
    struct leveret_error err = {0};
    int input = open_input();
    signal(SIGALRM, hung);
    alarm(RUN_S);
    int64_t before = failing_live();
    failing_begin(kind, nth);
    enum leveret_code code = run(&settled, input, &err);
    failing_end();
    int64_t kept = failing_live() - before;
    int outcome = judge(code, &err, &settled);
    if (loud)
        fprintf(stderr, "failed: %s; %lld blocks are left, %lld were without a failure\n",
                failing_what(), (long long)kept, (long long)live_at_end);
    if (outcome < RUN_LOST && live_at_end >= 0 && kept > live_at_end && !is_theirs()) {
        fprintf(stderr, "%lld blocks leaked after %s\n", (long long)(kept - live_at_end),
                failing_what());
        return RUN_LEAKED;
    }
    return outcome;
}

static int run_child(enum failing_kind kind, uint64_t nth, int64_t live_at_end) {
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(child(kind, nth, live_at_end));
    return waitpid(pid, &status, 0) == pid ? status : -1;
}

/* What a run without a failure leaves to the end of the process: the libraries' own tables. */
static int64_t count_left(void) {
    int64_t *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct settled settled = {0};
    struct leveret_error err = {0};
    int status;
    *shared = -1;
    pid_t pid = fork();
    if (pid == 0) {
        int input = open_input();
        int64_t before = failing_live();
        failing_begin(FAILING_MEMORY, 0);
        enum leveret_code code = run(&settled, input, &err);
        failing_end();
        *shared = failing_live() - before;
        if (code != LEVERET_OK)
            fprintf(stderr, "a run without a failure fails: %s\n", err.text);
        _exit(code != LEVERET_OK || judge(code, &err, &settled) != RUN_WITHOUT_FAILURE);
    }
    waitpid(pid, &status, 0);
    int64_t left = status == 0 ? *shared : -1;
    munmap(shared, sizeof *shared);
    return left;
}

struct tally {
    uint64_t runs, went_on, gave_up, aborted, bad;
};

/* False when that was the last run. */
static bool count(struct tally *tally, int status, const char *kind, uint64_t nth) {
    tally->runs++;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    switch (code) {
    case RUN_WITHOUT_FAILURE:
        tally->runs--;
        return false;
    case RUN_GOOD:
        tally->went_on++;
        return true;
    case RUN_GAVE_UP:
        tally->gave_up++;
        return true;
    case FAILING_ABORTED:
        tally->aborted++;
        return true;
    default:
        tally->bad++;
        fprintf(stderr, "  %s =%llu: %s %d\n", kind, (unsigned long long)nth,
                code < 0 ? "signal" : "outcome", code < 0 ? WTERMSIG(status) : code);
        return true;
    }
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "memory", *step_text = argc > 2 ? argv[2] : "1";
    enum failing_kind kind = strcmp(name, "system") == 0 ? FAILING_SYSTEM : FAILING_MEMORY;
    ERR_clear_error(); /* where the thread keeps its errors is nobody's leak */
    int64_t left = count_left();
    if (left < 0)
        return 1;
    if (step_text[0] == '=') {
        loud = true;
        int status = run_child(kind, strtoull(step_text + 1, NULL, 10), left);
        printf("status %d, signal %d\n", WEXITSTATUS(status), WTERMSIG(status));
        return status != 0;
    }
    struct tally tally = {0};
    uint64_t step = strtoull(step_text, NULL, 10);
    uint64_t nth = 1;
    while (count(&tally, run_child(kind, nth, left), name, nth))
        nth += step ? step : 1;
    printf(
        "%s: %llu of %llu calls failed, one a run: %llu runs went on, %llu ended with an error, "
        "%llu were aborted by a library, %llu were wrong\n",
        name, (unsigned long long)tally.runs, (unsigned long long)nth - 1,
        (unsigned long long)tally.went_on, (unsigned long long)tally.gave_up,
        (unsigned long long)tally.aborted, (unsigned long long)tally.bad);
    return tally.bad > 0;
}
