/* The lanes, as their supervisor sees them: processes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "supervisor/private.h"

/* The delay before the second restart in a row; the first has none. */
#define RESTART_FIRST_MS 200
/* The longest, of a lane that had been working or was killed, and of one that fails by itself
 * before it works. */
#define RESTART_CAP_MS 1000
#define RESTART_HOPELESS_CAP_MS 30000
/* A lane that has lived this long starts anew to count. */
#define GOOD_LIFE_MS 10000
/* A loop that has not turned for this long, on nobody's account, does not answer. */
#define BEATS_GRACE_MS 10000
/* Where none has come up for this long, none will by itself. */
#define AWAY_GRACE_MS 60000

/* ---- its beginning ---- */

/* Before anything of its own is open. */
static void become_lane(struct lvt_ward *ward, int line, pid_t parent) {
    sigset_t none;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1); /* it died before that was in force */
    ward->line = STDERR_FILENO + 1;
    if (line != ward->line)
        (void)dup3(line, ward->line, O_CLOEXEC);
    closefrom(ward->line + 1);
    signal(SIGHUP, SIG_IGN); /* until it has handlers to reload */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void refuse(struct lvt_supervisor *supervisor, struct lvt_ward *ward, const char *what) {
    LVT_LOG(supervisor->log, LVT_ERROR, "a lane cannot be started; trying again",
            LVT_STRING("call", what), LVT_STRING("reason", strerror(errno)),
            LVT_INTEGER("lane", ward->number));
    ward->start_at_ms = lvt_now_ms() + RESTART_CAP_MS;
}

bool lvt_ward_start(struct lvt_supervisor *supervisor, struct lvt_ward *ward,
                    struct lvt_post *ret_post) {
    int ends[2];
    pid_t parent = getpid();
    lvt_blackbox_reset(ward->box, supervisor->options.config->hard_timeout_ms);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        refuse(supervisor, ward, "socketpair");
        return false;
    }
    fflush(NULL); /* what is buffered would be written twice */
    pid_t pid = fork();
    if (pid == 0) {
        become_lane(ward, ends[1], parent);
        *ret_post = (struct lvt_post){.number = ward->number,
                                      .count = (unsigned)supervisor->count,
                                      .box = ward->box,
                                      .charges = supervisor->charges,
                                      .line = ward->line};
        return true;
    }
    close(ends[1]);
    if (pid < 0) {
        refuse(supervisor, ward, "fork");
        close(ends[0]);
        return false;
    }
    ward->pid = pid;
    ward->line = ends[0];
    ward->started_ms = lvt_now_ms();
    if (ward->absent_at_ms == 0) /* the first */
        ward->absent_at_ms = ward->started_ms;
    ward->beats = ward->pardons = 0;
    ward->stopped = ward->owes_reload = false; /* it reads the files as they are */
    ward->hung = ward->unsent = 0;
    memset(ward->stays, 0, sizeof ward->stays);
    return false;
}

/* ---- its end ---- */

/* An event may end it before its first beat. */
static bool came_up(const struct lvt_ward *ward) {
    return atomic_load(&ward->box->beats) > 0 || atomic_load(&ward->box->running_top) > 0;
}

static void plan_restart(struct lvt_ward *ward, int status, uint64_t now_ms) {
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL; /* not its own doing */
    uint64_t cap_ms = came_up(ward) || killed ? RESTART_CAP_MS : RESTART_HOPELESS_CAP_MS;
    uint64_t delay_ms = 0;
    if (now_ms - ward->started_ms >= GOOD_LIFE_MS)
        ward->deaths = 0;
    ward->deaths++;
    if (ward->deaths > 1) {
        unsigned doublings = ward->deaths - 2 < 16 ? ward->deaths - 2 : 16;
        delay_ms = (uint64_t)RESTART_FIRST_MS << doublings;
    }
    ward->start_at_ms = now_ms + (delay_ms < cap_ms ? delay_ms : cap_ms);
}

static bool is_final(const struct leveret_error *failure) {
    return failure->code == LEVERET_CONFIG || failure->code == LEVERET_MALFORMED ||
           failure->code == LEVERET_REFUSED;
}

/* All has worked, or what others do does: it cannot be the configuration alone. */
static bool has_worked(const struct lvt_supervisor *supervisor) {
    for (size_t i = 0; i < supervisor->count; i++)
        if (supervisor->wards[i].pid > 0 && atomic_load(&supervisor->wards[i].box->ready))
            return true;
    return supervisor->everything_ready;
}

/* It gave up, and said why. Once something has worked, another try is made of what may pass, and of
 * what keeps a lane from coming up again: a handler's file that cannot be used any more, with whose
 * version before that the lanes beside it go on. */
static void gave_up(struct lvt_supervisor *supervisor, const struct lvt_ward *ward) {
    const struct leveret_error *failure = &ward->box->failure;
    if (has_worked(supervisor) && (!is_final(failure) || !came_up(ward))) {
        LVT_LOG(supervisor->log, LVT_ERROR, "a lane gave up; it is started again",
                LVT_STRING("reason", failure->text), LVT_INTEGER("lane", ward->number));
        return;
    }
    if (supervisor->failure.code == LEVERET_OK)
        supervisor->failure = *failure;
    if (supervisor->stopping == 0)
        lvt_supervisor_stop(supervisor);
}

static void log_death(struct lvt_supervisor *supervisor, const struct lvt_ward *ward, pid_t pid,
                      int status, uint64_t now_ms) {
    char text[LVT_DEATH_TEXT];
    bool signalled = WIFSIGNALED(status);
    lvt_death_text(signalled ? LVT_DEATH_SIGNAL : LVT_DEATH_EXIT,
                   signalled ? WTERMSIG(status) : WEXITSTATUS(status), text);
    LVT_LOG(supervisor->log, LVT_ERROR,
            supervisor->stopping ? "a lane died" : "a lane died; it is started again",
            LVT_STRING("death", text), LVT_INTEGER("pid", pid),
            LVT_INTEGER("lived_ms", (int64_t)(now_ms - ward->started_ms)),
            LVT_INTEGER("restart_ms", (int64_t)(ward->start_at_ms - now_ms)),
            LVT_INTEGER("in_flight", atomic_load(&ward->box->in_flight)),
            LVT_INTEGER("lane", ward->number));
    if (ward->box->opening[0])
        LVT_LOG(supervisor->log, LVT_ERROR,
                "it died while a plugin opened; if it does again, mend the plugin, or take it out",
                LVT_STRING("handler", ward->box->opening), LVT_INTEGER("lane", ward->number));
}

/* To end, before it could do so in order, or because it did not. */
static bool was_told(const struct lvt_supervisor *supervisor, int status) {
    int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    return (supervisor->stopping > 0 && number == SIGTERM) ||
           (supervisor->killing && number == SIGKILL);
}

void lvt_ward_died(struct lvt_supervisor *supervisor, struct lvt_ward *ward, int status) {
    uint64_t now_ms = lvt_now_ms();
    pid_t pid = ward->pid;
    ward->pid = 0;
    ward->owes_reload = false; /* the next one reads the files */
    if (came_up(ward))
        ward->absent_at_ms = now_ms;
    lvt_report_depart(supervisor, ward);
    close(ward->line);
    ward->line = -1;
    lvt_judge_pardons(supervisor, ward);
    plan_restart(ward, status, now_ms);
    if (atomic_load(&ward->box->ended)) {
        if (ward->box->failure.code != LEVERET_OK)
            gave_up(supervisor, ward);
    } else if (!was_told(supervisor, status)) {
        log_death(supervisor, ward, pid, status, now_ms);
        lvt_judge(supervisor, ward, status);
    }
    if (!supervisor->stopping)
        supervisor->restarts++;
}

static void send_signal(struct lvt_ward *ward, int number) {
    ward->unsent = kill(ward->pid, number) == 0 ? 0 : number;
}

void lvt_wards_signal(struct lvt_supervisor *supervisor, int number) {
    for (size_t i = 0; i < supervisor->count; i++)
        if (supervisor->wards[i].pid > 0)
            send_signal(&supervisor->wards[i], number);
}

/* ---- its life ---- */

/* The longest stay on a seat that is over its limit: the seat's number plus one, or 0. Time counts
 * as this process has seen it go by, so that none does while the machine sleeps. */
static int find_hung(struct lvt_ward *ward, uint64_t since_ms) {
    for (int i = 0; i < LVT_SEATS_MAX; i++) {
        struct lvt_seat *seat = &ward->box->seats[i];
        struct lvt_stay *stay = &ward->stays[i];
        uint32_t turn = atomic_load_explicit(&seat->turn, memory_order_acquire);
        bool same = (turn & 1) && turn == stay->turn;
        stay->turn = turn;
        stay->on_ms = same ? stay->on_ms + since_ms : 0;
        if (same && stay->on_ms > seat->limit_ms)
            return i + 1;
    }
    return 0;
}

static void stop_hung(struct lvt_supervisor *supervisor, struct lvt_ward *ward) {
    const struct lvt_subject *subject = &ward->box->seats[ward->hung - 1].subject;
    LVT_LOG(supervisor->log, LVT_ERROR,
            "a handler did not come back within hard_timeout_ms; its lane is killed",
            LVT_STRING("event", subject->type), LVT_STRING("id", subject->id),
            LVT_STRING("handler", subject->handler), LVT_INTEGER("pid", ward->pid),
            LVT_INTEGER("lane", ward->number));
    send_signal(ward, SIGKILL);
}

void lvt_wards_look(struct lvt_supervisor *supervisor, uint64_t now_ms, uint64_t since_ms) {
    for (size_t i = 0; i < supervisor->count; i++) {
        struct lvt_ward *ward = &supervisor->wards[i];
        if (ward->pid == 0)
            continue;
        uint32_t beats = atomic_load(&ward->box->beats);
        if (ward->unsent)
            send_signal(ward, ward->unsent);
        if (ward->owes_reload && ward->beats == 0 && beats > 0)
            send_signal(ward, SIGHUP); /* it may not have been able to take the first one */
        if (beats != ward->beats)
            ward->absent_at_ms = now_ms;
        ward->beats = beats;
        lvt_judge_pardons(supervisor, ward);
        if (ward->stopped || ward->hung)
            continue;
        ward->hung = find_hung(ward, since_ms);
        if (ward->hung)
            stop_hung(supervisor, ward);
    }
}

bool lvt_ward_answers(const struct lvt_supervisor *supervisor, const struct lvt_ward *ward,
                      uint64_t now_ms) {
    uint64_t grace_ms = supervisor->options.config->hard_timeout_ms + BEATS_GRACE_MS;
    bool started_since = ward->started_ms > ward->absent_at_ms;
    return now_ms - (started_since ? ward->started_ms : ward->absent_at_ms) < grace_ms;
}

bool lvt_ward_lost(const struct lvt_supervisor *supervisor, const struct lvt_ward *ward,
                   uint64_t now_ms) {
    if (ward->pid == 0 || ward->beats == 0)
        return now_ms - ward->absent_at_ms >= AWAY_GRACE_MS;
    return !lvt_ward_answers(supervisor, ward, now_ms);
}
