#include "runtime/lua/lua_watch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id /* not every C library names it */
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define NS_PER_MS 1000000L
/* The share of its time that a coroutine may lose to hooks being set. */
#define HOOK_COST_PART 10

struct watch {
    lua_State *volatile at_work;
    volatile sig_atomic_t ticked;
    uint64_t hooked_us, hook_cost_us; /* when a hook was set last, and what that took */
    bool started;
    bool has_timers;
    timer_t ticks; /* of processor time, for ever */
    timer_t slice; /* of time, once for each slice */
};

static _Thread_local struct watch watch;
static pthread_key_t thread_end;
static struct sigaction before;

static uint64_t now_us(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* lua_sethook visits every call that is under way: in a deep recursion, hundreds of thousands. */
static void set_hook(lua_State *L) {
    uint64_t begun_us = now_us(CLOCK_MONOTONIC);
    if (begun_us - watch.hooked_us < HOOK_COST_PART * watch.hook_cost_us)
        return;
    watch.ticked = 1;
    lua_sethook(L, lvt_lua_watch_hook, LUA_MASKCOUNT, 1);
    watch.hooked_us = now_us(CLOCK_MONOTONIC);
    watch.hook_cost_us = watch.hooked_us - begun_us;
}

static void tick(int signal_number, siginfo_t *info, void *context) {
    if (info->si_code == SI_TIMER && info->si_value.sival_ptr == &watch) {
        lua_State *L = watch.at_work;
        if (L)
            set_hook(L);
    } else if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(signal_number, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(signal_number);
    }
}

/* ---- a thread's timers ---- */

static void stop(void *ctx) {
    struct watch *mine = ctx;
    timer_delete(mine->ticks);
    timer_delete(mine->slice);
    mine->has_timers = mine->started = false;
}

/* Timers are not inherited by a child. */
static void forget(void) {
    watch = (struct watch){0};
}

static void prepare_process(void) {
    struct sigaction action = {.sa_sigaction = tick,
                               .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    pthread_key_create(&thread_end, stop);
    pthread_atfork(NULL, NULL, forget);
    sigaction(SIGURG, &action, &before);
}

static void start(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGURG};
    const struct itimerspec every = {.it_interval.tv_nsec = LVT_LUA_TICK_MS * NS_PER_MS,
                                     .it_value.tv_nsec = LVT_LUA_TICK_MS * NS_PER_MS};
    sigset_t ours;
    pthread_once(&once, prepare_process);
    watch.started = true;
    event.sigev_value.sival_ptr = &watch;
    event.sigev_notify_thread_id = gettid();
    if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &watch.ticks) != 0)
        return;
    if (timer_create(CLOCK_MONOTONIC, &event, &watch.slice) != 0) {
        timer_delete(watch.ticks);
        return;
    }
    watch.has_timers = true;
    pthread_setspecific(thread_end, &watch);
    sigemptyset(&ours);
    sigaddset(&ours, SIGURG);
    pthread_sigmask(SIG_UNBLOCK, &ours, NULL);
    timer_settime(watch.ticks, 0, &every, NULL);
}

/* ---- */

lua_State *lvt_lua_watch_switch(lua_State *L) {
    lua_State *last = watch.at_work;
    if (!watch.started)
        start();
    watch.at_work = L;
    return last;
}

bool lvt_lua_watch_ticked(void) {
    bool ticked = watch.ticked;
    if (ticked)
        watch.ticked = 0;
    return ticked;
}

void lvt_lua_watch_slice(void) {
    const struct itimerspec once = {.it_value.tv_nsec = LVT_LUA_SLICE_MS * NS_PER_MS};
    if (watch.has_timers)
        timer_settime(watch.slice, 0, &once, NULL);
}

bool lvt_lua_watch_works(void) {
    if (!watch.started)
        start();
    return watch.has_timers;
}

uint64_t lvt_lua_watch_used_us(void) {
    return now_us(CLOCK_THREAD_CPUTIME_ID);
}
