/* `leveret run`, as a process for each lane and one that looks after them. */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/program.h"
#include "supervisor/supervisor.h"

/* ---- a worker in this process ---- */

static struct leveret_worker *running;

static void stop(int signal_number) {
    (void)signal_number;
    leveret_worker_stop(running);
}

/* A second one, of either kind, finds the default action, which ends the process. */
static void stop_or_die(int signal_number) {
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    stop(signal_number);
}

static void reload(int signal_number) {
    (void)signal_number;
    leveret_worker_reload(running);
}

static void on_stop_signals(void (*handler)(int signal_number)) {
    const int caught[] = {SIGTERM, SIGINT};
    struct sigaction action = {.sa_handler = handler};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
        sigaction(caught[i], &action, NULL);
}

static void on_reload_signal(void (*handler)(int signal_number)) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGHUP, &action, NULL);
}

static void log_handlers(const struct lvt_program *program) {
    const struct lvt_routes *routes = &program->worker->routes;
    for (size_t i = 0; i < routes->handler_count; i++) {
        const struct lvt_handler *handler = routes->handlers[i];
        LVT_LOG(&program->log, LVT_INFO, "handler loaded", LVT_STRING("handler", handler->name),
                LVT_STRING("queue", handler->queue->name), LVT_STRING("version", handler->version),
                LVT_STRING("file", handler->path));
    }
}

enum leveret_code lvt_program_run_worker(struct lvt_program *program, struct leveret_error *err) {
    bool supervised = program->worker->post != NULL;
    LVT_LOG(&program->log, LVT_INFO, "leveret starts", LVT_STRING("version", LEVERET_VERSION),
            LVT_STRING("name", program->config.name), LVT_INTEGER("pid", getpid()));
    log_handlers(program);
    running = program->worker;
    /* A lane may be told by its supervisor and by whoever signals the whole group: it is the
     * supervisor that ends it at once. */
    on_stop_signals(supervised ? stop : stop_or_die);
    on_reload_signal(reload);
    enum leveret_code code = leveret_worker_run(program->worker, err);
    on_stop_signals(supervised ? SIG_IGN : SIG_DFL);
    on_reload_signal(SIG_IGN); /* there is nothing to reload any more */
    if (code == LEVERET_OK)
        lvt_log(&program->log, LVT_INFO, "shutdown: done", NULL, 0);
    return code;
}

/* ---- a lane ---- */

/* What goes wrong is the supervisor's to tell: there may be many lanes, and one reason. */
static int be_lane(struct lvt_program *program, const struct lvt_post *post) {
    struct leveret_error err = {.code = LEVERET_OK};
    lvt_blackbox_open(post->box);
    if (post->count > 1)
        lvt_log_writer_share(&program->writer, post->number);
    enum leveret_code code = lvt_program_make_worker(program, &err);
    if (code == LEVERET_OK) {
        program->worker->post = post;
        code = lvt_program_run_worker(program, &err);
    }
    lvt_program_done(program);
    if (code != LEVERET_OK)
        post->box->failure = err;
    atomic_store(&post->box->ended, true);
    return code == LEVERET_OK ? LVT_EXIT_OK : LVT_EXIT_SOFTWARE;
}

/* ---- their supervisor ---- */

/* Where charges are kept. NULL: nowhere is known. */
static const char *state_dir(const struct lvt_config *config, char memory[PATH_MAX]) {
    const struct {
        const char *variable, *form;
    } places[] = {{"STATE_DIRECTORY", "%s"},
                  {"XDG_STATE_HOME", "%s/leveret"},
                  {"HOME", "%s/.local/state/leveret"}};
    if (config->state_dir)
        return config->state_dir;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *value = getenv(places[i].variable);
        if (value && value[0] == '/' &&
            snprintf(memory, PATH_MAX, places[i].form, value) < PATH_MAX)
            return memory;
    }
    return NULL;
}

/* As if the second signal had met nobody who catches it. */
static int die_of(int number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    signal(number, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    raise(number);
    return 128 + number; /* PID 1 does not die of its own signals */
}

/* Static: a lane inherits the supervisor's memory, and leaves it alone. */
static struct lvt_supervisor *supervisor;

int lvt_program_supervise(struct lvt_program *program) {
    char memory[PATH_MAX];
    const struct lvt_supervisor_options options = {&program->config, &program->log,
                                                   state_dir(&program->config, memory)};
    struct leveret_error err;
    struct lvt_post post;
    enum lvt_supervised as = LVT_SUPERVISED_END;
    int number = 0;
    signal(SIGPIPE, SIG_IGN); /* whoever reads the log may end before us */
    enum leveret_code code = lvt_supervisor_new(&options, &supervisor, &err);
    if (code == LEVERET_OK)
        code = lvt_supervisor_run(supervisor, &as, &post, &number, &err);
    if (as == LVT_SUPERVISED_LANE)
        return be_lane(program, &post);
    lvt_supervisor_free(supervisor);
    int status = code == LEVERET_OK ? LVT_EXIT_OK : lvt_program_fail(&err);
    lvt_program_done(program);
    return number > 0 ? die_of(number) : status;
}
