/* Which event ended a lane. The one that was on the processor is charged; where that cannot be
 * known, all whose handlers had begun are suspects, which run alone: if it happens again, there is
 * no doubt. */
#include <signal.h>
#include <sys/wait.h>

#include "supervisor/private.h"

static void publish(struct lvt_supervisor *supervisor) {
    size_t count;
    const struct lvt_charge *list = lvt_charges_file_list(supervisor->file, &count);
    lvt_charges_publish(supervisor->charges, list, count);
}

static void charge(struct lvt_supervisor *supervisor, const struct lvt_ward *ward,
                   const struct lvt_subject *subject, enum lvt_death death, int detail) {
    char text[LVT_DEATH_TEXT];
    struct lvt_charge charged =
        lvt_charges_file_charge(supervisor->file, subject->key, subject->attempt, death, detail);
    lvt_death_text(death, detail, text);
    LVT_LOG(supervisor->log, LVT_ERROR, "an event ended the lane, and is charged with an attempt",
            LVT_STRING("event", subject->type), LVT_STRING("id", subject->id),
            LVT_STRING("handler", subject->handler), LVT_INTEGER("attempt", subject->attempt),
            LVT_INTEGER("crashes", charged.crashes),
            LVT_INTEGER("crash_limit", supervisor->options.config->crash_limit),
            LVT_STRING("death", text), LVT_INTEGER("lane", ward->number));
}

static void suspect_all(struct lvt_supervisor *supervisor, const struct lvt_ward *ward,
                        enum lvt_death death, int detail) {
    const struct lvt_blackbox *box = ward->box;
    uint32_t rows = atomic_load(&box->running_top);
    const struct lvt_running *only = NULL;
    size_t count = 0;
    for (uint32_t i = 0; i < rows; i++) {
        if (!atomic_load(&box->running[i].used))
            continue;
        only = &box->running[i];
        count++;
    }
    if (count == 1 && only->subject.suspect) {
        charge(supervisor, ward, &only->subject, death, detail);
        return;
    }
    for (uint32_t i = 0; i < rows; i++)
        if (atomic_load(&box->running[i].used))
            lvt_charges_file_suspect(supervisor->file, box->running[i].subject.key);
    if (count > 0)
        LVT_LOG(supervisor->log, LVT_WARN,
                "any of the events under way may have ended the lane: they run again one at a time",
                LVT_INTEGER("events", (int64_t)count), LVT_INTEGER("lane", ward->number));
}

/* Of a process that wrote nothing down any more: the only seat that is taken. NULL. */
static const struct lvt_seat *only_busy(const struct lvt_blackbox *box) {
    const struct lvt_seat *only = NULL;
    for (size_t i = 0; i < LVT_SEATS_MAX; i++) {
        if (!lvt_seat_busy(&box->seats[i]))
            continue;
        if (only)
            return NULL;
        only = &box->seats[i];
    }
    return only;
}

static bool is_fault(int number) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (faults[i] == number)
            return true;
    return false;
}

/* It may have come back after all, before the signal came: then another one has its seat. */
static bool still_hangs(const struct lvt_ward *ward) {
    int seat = ward->hung - 1;
    return atomic_load(&ward->box->seats[seat].turn) == ward->stays[seat].turn;
}

void lvt_judge(struct lvt_supervisor *supervisor, struct lvt_ward *ward, int status) {
    const struct lvt_blackbox *box = ward->box;
    int32_t culprit = atomic_load(&box->culprit);
    bool signalled = WIFSIGNALED(status);
    int detail = signalled ? WTERMSIG(status) : WEXITSTATUS(status);
    enum lvt_death death = signalled ? LVT_DEATH_SIGNAL : LVT_DEATH_EXIT;
    if (ward->hung && signalled && detail == SIGKILL) {
        if (still_hangs(ward))
            charge(supervisor, ward, &box->seats[ward->hung - 1].subject, LVT_DEATH_HANG, 0);
    } else if (signalled && !is_fault(detail)) {
        suspect_all(supervisor, ward, LVT_DEATH_SIGNAL, detail);
    } else {
        const struct lvt_seat *seat = culprit > 0 ? &box->seats[culprit - 1] : NULL;
        if (culprit == LVT_CULPRIT_UNKNOWN)
            seat = only_busy(box);
        if (seat)
            charge(supervisor, ward, &seat->subject, death, detail);
        else
            suspect_all(supervisor, ward, death, detail);
    }
    publish(supervisor);
}

void lvt_judge_pardons(struct lvt_supervisor *supervisor, struct lvt_ward *ward) {
    struct lvt_blackbox *box = ward->box;
    uint32_t count = atomic_load_explicit(&box->pardoned, memory_order_acquire);
    bool changed = false;
    if (count - ward->pardons > LVT_PARDONS_MAX)
        ward->pardons = count - LVT_PARDONS_MAX;
    for (; ward->pardons != count; ward->pardons++)
        if (lvt_charges_file_pardon(supervisor->file,
                                    box->pardons[ward->pardons % LVT_PARDONS_MAX]))
            changed = true;
    if (changed)
        publish(supervisor);
}
