#include "supervisor/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "supervisor/private.h"
#include "supervisor/processors.h"

/* How often lanes are looked at: enough for a hard_timeout_ms to be kept within an eighth. */
#define LOOK_MAX_MS 250
#define LOOK_MIN_MS 10
/* Above shutdown_timeout_ms, for a lane to close what it has open. */
#define CLOSE_MS 10000
#define METRICS_MAX ((size_t)17 << 20)

/* ---- its making ---- */

static enum leveret_code share_memory(struct lvt_supervisor *supervisor,
                                      struct leveret_error *err) {
    supervisor->shared_bytes =
        sizeof *supervisor->charges + supervisor->count * sizeof *supervisor->boxes;
    void *memory = mmap(NULL, supervisor->shared_bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return leveret_fail(err, LEVERET_NO_MEMORY, "no memory to share with the lanes: %s",
                            strerror(errno));
    supervisor->charges = memory;
    supervisor->boxes = (struct lvt_blackbox *)(supervisor->charges + 1);
    return LEVERET_OK;
}

static enum leveret_code open_charges(struct lvt_supervisor *supervisor,
                                      struct leveret_error *err) {
    const struct lvt_supervisor_options *options = &supervisor->options;
    size_t count;
    enum leveret_code code = lvt_charges_file_open(options->state_dir, options->config->name,
                                                   options->log, &supervisor->file, err);
    if (code != LEVERET_OK)
        return code;
    const struct lvt_charge *list = lvt_charges_file_list(supervisor->file, &count);
    lvt_charges_publish(supervisor->charges, list, count);
    return LEVERET_OK;
}

static enum leveret_code open_pages(struct lvt_supervisor *supervisor, struct leveret_error *err) {
    const char *listen = supervisor->options.config->admin.listen;
    const struct lvt_server_options options = {listen, supervisor, lvt_reports_asked};
    if (listen[0] == 0)
        return LEVERET_OK;
    return lvt_server_start(&options, &supervisor->server, err);
}

/* They wait until the loop reads them. Of lanes that end nobody would be told where whoever started
 * this program ignores SIGCHLD, which exec hands on. */
static enum leveret_code take_signals(struct lvt_supervisor *supervisor,
                                      struct leveret_error *err) {
    const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigaddset(&set, numbers[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGCHLD, SIG_DFL);
    supervisor->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (supervisor->signals < 0)
        return leveret_fail(err, LEVERET_SYSTEM, "signals cannot be read: %s", strerror(errno));
    return LEVERET_OK;
}

static void make_wards(struct lvt_supervisor *supervisor) {
    for (size_t i = 0; i < supervisor->count; i++) {
        struct lvt_ward *ward = &supervisor->wards[i];
        ward->number = (unsigned)i + 1;
        ward->box = &supervisor->boxes[i];
        ward->line = -1;
        lvt_buffer_init(&ward->incoming, METRICS_MAX);
        lvt_buffer_init(&ward->metrics, METRICS_MAX);
    }
}

enum leveret_code lvt_supervisor_new(const struct lvt_supervisor_options *options,
                                     struct lvt_supervisor **ret_supervisor,
                                     struct leveret_error *err) {
    size_t count = options->config->lanes > 0 ? options->config->lanes : lvt_processors();
    struct lvt_supervisor *supervisor =
        calloc(1, sizeof *supervisor + count * sizeof supervisor->wards[0]);
    if (!supervisor)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the supervisor");
    supervisor->options = *options;
    supervisor->log = options->log;
    supervisor->count = count;
    supervisor->signals = -1;
    supervisor->started_ms = lvt_now_ms();
    lvt_notify_open(&supervisor->notify);
    enum leveret_code code = share_memory(supervisor, err);
    if (code == LEVERET_OK) {
        make_wards(supervisor);
        code = open_charges(supervisor, err);
    }
    if (code == LEVERET_OK)
        code = open_pages(supervisor, err);
    if (code == LEVERET_OK)
        code = take_signals(supervisor, err);
    if (code != LEVERET_OK) {
        lvt_supervisor_free(supervisor);
        return code;
    }
    *ret_supervisor = supervisor;
    return LEVERET_OK;
}

void lvt_supervisor_free(struct lvt_supervisor *supervisor) {
    if (!supervisor)
        return;
    for (size_t i = 0; i < supervisor->count; i++) {
        lvt_buffer_free(&supervisor->wards[i].incoming);
        lvt_buffer_free(&supervisor->wards[i].metrics);
    }
    lvt_buffer_free(&supervisor->departed);
    lvt_server_free(supervisor->server);
    lvt_charges_file_close(supervisor->file);
    lvt_notify_close(&supervisor->notify);
    if (supervisor->signals >= 0)
        close(supervisor->signals);
    if (supervisor->charges)
        munmap(supervisor->charges, supervisor->shared_bytes);
    free(supervisor);
}

/* ---- signals ---- */

void lvt_supervisor_stop(struct lvt_supervisor *supervisor) {
    supervisor->stopping = 1;
    supervisor->kill_at_ms =
        lvt_now_ms() + supervisor->options.config->shutdown_timeout_ms + CLOSE_MS;
    lvt_notify_send(&supervisor->notify, "STOPPING=1\nSTATUS=finishing what is in flight");
    lvt_wards_signal(supervisor, SIGTERM);
}

static void asked_to_stop(struct lvt_supervisor *supervisor, int number) {
    bool again = supervisor->last_signal > 0;
    supervisor->last_signal = number;
    if (supervisor->stopping == 0)
        lvt_supervisor_stop(supervisor);
    if (!again)
        return;
    supervisor->stopping = 2;
    supervisor->killing = true;
    lvt_wards_signal(supervisor, SIGKILL);
}

static void tell_reloading(struct lvt_supervisor *supervisor) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    lvt_notify_send(&supervisor->notify, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=reloading",
                    (unsigned long long)now.tv_sec * 1000000 +
                        (unsigned long long)now.tv_nsec / 1000);
    supervisor->reloading = true;
}

static void reload(struct lvt_supervisor *supervisor) {
    if (supervisor->everything_ready) /* or its end would say so */
        tell_reloading(supervisor);
    for (size_t i = 0; i < supervisor->count; i++) {
        struct lvt_ward *ward = &supervisor->wards[i];
        ward->owes_reload = ward->pid > 0;
        ward->reloads = atomic_load(&ward->box->reloads);
    }
    lvt_wards_signal(supervisor, SIGHUP);
}

static struct lvt_ward *find_ward(struct lvt_supervisor *supervisor, pid_t pid) {
    for (size_t i = 0; i < supervisor->count; i++)
        if (supervisor->wards[i].pid == pid)
            return &supervisor->wards[i];
    return NULL;
}

/* As PID 1, or for what a lane leaves behind, there are others to reap. */
static void reap(struct lvt_supervisor *supervisor) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0) {
        struct lvt_ward *ward = find_ward(supervisor, pid);
        if (!ward)
            continue;
        if (WIFSTOPPED(status) || WIFCONTINUED(status))
            ward->stopped = WIFSTOPPED(status);
        else
            lvt_ward_died(supervisor, ward, status);
    }
}

static void read_signals(struct lvt_supervisor *supervisor) {
    struct signalfd_siginfo info;
    while (read(supervisor->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
            asked_to_stop(supervisor, (int)info.ssi_signo);
        else if (info.ssi_signo == SIGHUP && supervisor->stopping == 0)
            reload(supervisor);
    }
    reap(supervisor);
}

/* ---- systemd ---- */

static size_t count_ready(const struct lvt_supervisor *supervisor) {
    size_t ready = 0;
    for (size_t i = 0; i < supervisor->count; i++)
        ready += supervisor->wards[i].pid > 0 && atomic_load(&supervisor->wards[i].box->ready);
    return ready;
}

static bool all_reloaded(const struct lvt_supervisor *supervisor) {
    for (size_t i = 0; i < supervisor->count; i++) {
        const struct lvt_ward *ward = &supervisor->wards[i];
        if (ward->owes_reload && atomic_load(&ward->box->reloads) == ward->reloads)
            return false;
    }
    return true;
}

static bool all_answer(const struct lvt_supervisor *supervisor, uint64_t now_ms) {
    for (size_t i = 0; i < supervisor->count; i++)
        if (supervisor->wards[i].pid > 0 &&
            !lvt_ward_answers(supervisor, &supervisor->wards[i], now_ms))
            return false;
    return true;
}

static void notify(struct lvt_supervisor *supervisor, uint64_t now_ms) {
    struct lvt_notify *systemd = &supervisor->notify;
    bool ready = count_ready(supervisor) == supervisor->count;
    lvt_notify_again(systemd);
    if (supervisor->stopping == 0 && ready && !supervisor->everything_ready) {
        supervisor->everything_ready = true;
        lvt_notify_send(systemd, "READY=1\nSTATUS=consuming, in %zu lane%s", supervisor->count,
                        supervisor->count > 1 ? "s" : "");
    }
    if (supervisor->stopping == 0 && supervisor->reloading && all_reloaded(supervisor)) {
        supervisor->reloading = false;
        lvt_notify_send(systemd, "READY=1\nSTATUS=consuming, reloaded");
    }
    if (systemd->watchdog_ms > 0 && now_ms - systemd->alive_at_ms >= systemd->watchdog_ms &&
        all_answer(supervisor, now_ms)) {
        systemd->alive_at_ms = now_ms;
        lvt_notify_send(systemd, "WATCHDOG=1");
    }
}

/* ---- the loop ---- */

static uint64_t look_every_ms(const struct lvt_supervisor *supervisor) {
    uint64_t every_ms = supervisor->options.config->hard_timeout_ms / 8;
    uint64_t watchdog_ms = supervisor->notify.watchdog_ms / 2;
    if (watchdog_ms > 0 && watchdog_ms < every_ms)
        every_ms = watchdog_ms;
    if (every_ms > LOOK_MAX_MS)
        return LOOK_MAX_MS;
    return every_ms < LOOK_MIN_MS ? LOOK_MIN_MS : every_ms;
}

/* Not before a lane has come so far: what keeps it from that is then all that there is to read. */
static void announce(struct lvt_supervisor *supervisor) {
    for (size_t i = 0; i < supervisor->count && !supervisor->announced; i++)
        supervisor->announced = atomic_load(&supervisor->wards[i].box->beats) > 0;
    if (supervisor->announced)
        lvt_server_log_address(supervisor->server, supervisor->log);
}

static void look(struct lvt_supervisor *supervisor, uint64_t now_ms) {
    uint64_t every_ms = look_every_ms(supervisor);
    uint64_t since_ms = now_ms - supervisor->looked_ms;
    if (since_ms < every_ms)
        return;
    /* More than twice that, and it was this process that had no time. */
    lvt_wards_look(supervisor, now_ms, since_ms < 2 * every_ms ? since_ms : 2 * every_ms);
    supervisor->looked_ms = now_ms;
    if (supervisor->server && !supervisor->announced)
        announce(supervisor);
    notify(supervisor, now_ms);
    if (supervisor->stopping > 0 && !supervisor->killing && now_ms >= supervisor->kill_at_ms) {
        supervisor->killing = true;
        lvt_log(supervisor->log, LVT_ERROR, "shutdown: lanes that do not end are killed", NULL, 0);
        lvt_wards_signal(supervisor, SIGKILL);
    }
}

static void sooner(uint64_t *wait_ms, uint64_t now_ms, uint64_t due_ms) {
    uint64_t left_ms = due_ms > now_ms ? due_ms - now_ms : 0;
    if (left_ms < *wait_ms)
        *wait_ms = left_ms;
}

static int wait_of(const struct lvt_supervisor *supervisor, uint64_t now_ms) {
    uint64_t wait_ms = LOOK_MAX_MS;
    sooner(&wait_ms, now_ms, supervisor->looked_ms + look_every_ms(supervisor));
    if (supervisor->pages_due_ms > 0)
        sooner(&wait_ms, now_ms, supervisor->pages_due_ms);
    if (supervisor->collecting)
        sooner(&wait_ms, now_ms, supervisor->collect_until_ms);
    for (size_t i = 0; i < supervisor->count && supervisor->stopping == 0; i++)
        if (supervisor->wards[i].pid == 0)
            sooner(&wait_ms, now_ms, supervisor->wards[i].start_at_ms);
    return (int)wait_ms;
}

/* Until something happens, or something is due. */
static void wait_and_see(struct lvt_supervisor *supervisor, struct pollfd *fds) {
    nfds_t count = 0;
    fds[count++] = (struct pollfd){.fd = supervisor->signals, .events = POLLIN};
    fds[count++] = (struct pollfd){
        .fd = supervisor->server ? lvt_server_fd(supervisor->server) : -1, .events = POLLIN};
    for (size_t i = 0; i < supervisor->count; i++) {
        const struct lvt_ward *ward = &supervisor->wards[i];
        /* A dead one's line is at its end until it is reaped: nothing more is to be read. */
        fds[count++] = (struct pollfd){.fd = ward->owes_report ? ward->line : -1, .events = POLLIN};
    }
    (void)poll(fds, count, wait_of(supervisor, lvt_now_ms()));
    for (size_t i = 0; i < supervisor->count; i++)
        if (fds[2 + i].fd >= 0 && fds[2 + i].revents)
            lvt_report_receive(&supervisor->wards[i]);
    read_signals(supervisor);
    if (supervisor->server) {
        int64_t left_ms = lvt_server_run(supervisor->server);
        uint64_t now_ms = lvt_now_ms();
        supervisor->pages_due_ms = left_ms < 0 ? 0 : now_ms + (uint64_t)left_ms;
    }
}

/* True in a lane. */
static bool start_due(struct lvt_supervisor *supervisor, uint64_t now_ms,
                      struct lvt_post *ret_post) {
    for (size_t i = 0; i < supervisor->count; i++) {
        struct lvt_ward *ward = &supervisor->wards[i];
        if (ward->pid == 0 && now_ms >= ward->start_at_ms &&
            lvt_ward_start(supervisor, ward, ret_post))
            return true;
    }
    return false;
}

static bool any_alive(const struct lvt_supervisor *supervisor) {
    for (size_t i = 0; i < supervisor->count; i++)
        if (supervisor->wards[i].pid > 0)
            return true;
    return false;
}

enum leveret_code lvt_supervisor_run(struct lvt_supervisor *supervisor, enum lvt_supervised *ret_as,
                                     struct lvt_post *ret_post, int *ret_signal,
                                     struct leveret_error *err) {
    struct pollfd *fds = calloc(supervisor->count + 2, sizeof *fds);
    if (!fds)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the supervisor");
    *ret_as = LVT_SUPERVISED_END;
    *ret_signal = 0;
    supervisor->looked_ms = supervisor->notify.alive_at_ms = lvt_now_ms();
    while (supervisor->stopping == 0 || any_alive(supervisor)) {
        uint64_t now_ms = lvt_now_ms();
        if (supervisor->stopping == 0 && start_due(supervisor, now_ms, ret_post)) {
            free(fds);
            *ret_as = LVT_SUPERVISED_LANE;
            return LEVERET_OK;
        }
        wait_and_see(supervisor, fds);
        now_ms = lvt_now_ms();
        lvt_reports_step(supervisor, now_ms);
        look(supervisor, now_ms);
    }
    free(fds);
    if (supervisor->stopping > 1)
        *ret_signal = supervisor->last_signal;
    if (supervisor->failure.code == LEVERET_OK)
        return LEVERET_OK;
    return leveret_fail(err, supervisor->failure.code, "%s", supervisor->failure.text);
}
