/* What a dying process still writes down: on whose behalf its thread was at work. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "blackbox/blackbox.h"

/* Faults that the thread itself caused: the signals come to it, even where it blocks them. */
static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};
#define FAULT_COUNT (sizeof faults / sizeof faults[0])

/* The handlers of sanitizers, which may run on it afterwards, want more than the least. */
#define STACK_BYTES ((size_t)65536)

static struct lvt_blackbox *opened;
static struct sigaction before[FAULT_COUNT];
static _Thread_local struct lvt_seat *mine;
static _Thread_local void *signal_stack;

/* The first one stands: what comes after it may be its consequence. */
static void note(int32_t culprit) {
    int32_t none = LVT_CULPRIT_UNKNOWN;
    atomic_compare_exchange_strong(&opened->culprit, &none, culprit);
}

static int32_t seated(void) {
    if (!mine || !lvt_seat_busy(mine))
        return LVT_CULPRIT_NOBODY;
    return (int32_t)(mine - opened->seats) + 1;
}

static void died(int number, siginfo_t *info, void *context) {
    (void)context;
    bool sent = info->si_code == SI_USER && info->si_pid != getpid();
    if (getpid() == opened->pid)
        note(sent ? LVT_CULPRIT_NOBODY : seated());
    for (size_t i = 0; i < FAULT_COUNT; i++)
        if (faults[i] == number)
            sigaction(number, &before[i], NULL);
    /* A fault happens again once this returns, and meets the action of before; what was sent does
     * not. */
    if (info->si_code <= 0)
        raise(number);
}

/* A handler has called exit(). What else runs then would take the libraries down under the threads
 * that still work, and the fault that follows would stand where the status has to. */
static void left(int status, void *unused) {
    (void)unused;
    if (getpid() != opened->pid || atomic_load(&opened->ended))
        return;
    (void)on_exit(left, NULL); /* for another thread that exits meanwhile */
    note(seated());
    fcloseall(); /* the handler may have said why; as exit() does it, without the streams' locks */
    _exit(status);
}

/* Without one a thread whose stack is full could not run the handler. Best effort. */
static void make_signal_stack(void) {
    stack_t has;
    if (sigaltstack(NULL, &has) == 0 && !(has.ss_flags & SS_DISABLE))
        return;
    void *memory = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED)
        return;
    const stack_t stack = {.ss_sp = memory, .ss_size = STACK_BYTES};
    if (sigaltstack(&stack, NULL) == 0)
        signal_stack = memory;
    else
        munmap(memory, STACK_BYTES);
}

static void drop_signal_stack(void) {
    const stack_t none = {.ss_flags = SS_DISABLE};
    if (!signal_stack)
        return;
    sigaltstack(&none, NULL);
    munmap(signal_stack, STACK_BYTES);
    signal_stack = NULL;
}

void lvt_blackbox_open(struct lvt_blackbox *box) {
    struct sigaction action = {.sa_sigaction = died, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    opened = box;
    box->pid = getpid();
    mine = &box->seats[0];
    atomic_store(&mine->taken, true);
    make_signal_stack();
    for (size_t i = 0; i < FAULT_COUNT; i++)
        sigaction(faults[i], &action, &before[i]);
}

void lvt_blackbox_opening(const char *handler) {
    if (opened)
        snprintf(opened->opening, sizeof opened->opening, "%s", handler);
}

void lvt_blackbox_expect_exit(void) {
    (void)on_exit(left, NULL);
}

struct lvt_seat *lvt_blackbox_sit(struct lvt_blackbox *box) {
    sigset_t open_to;
    sigemptyset(&open_to);
    for (size_t i = 0; i < FAULT_COUNT; i++)
        sigaddset(&open_to, faults[i]);
    for (size_t i = 1; i < LVT_SEATS_MAX; i++) {
        bool taken = false;
        if (!atomic_compare_exchange_strong(&box->seats[i].taken, &taken, true))
            continue;
        mine = &box->seats[i];
        make_signal_stack();
        pthread_sigmask(SIG_UNBLOCK, &open_to, NULL);
        return mine;
    }
    return NULL;
}

void lvt_blackbox_stand(struct lvt_seat *seat) {
    if (!seat)
        return;
    drop_signal_stack();
    mine = NULL;
    atomic_store(&seat->taken, false);
}
