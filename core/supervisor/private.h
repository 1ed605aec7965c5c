/* What the files of this folder share. */
#ifndef LEVERET_SUPERVISOR_PRIVATE_H
#define LEVERET_SUPERVISOR_PRIVATE_H

#include <sys/types.h>

#include "admin/line.h"
#include "supervisor/charges_file.h"
#include "supervisor/notify.h"
#include "supervisor/supervisor.h"

/* How far an event has been seen to stay on a seat. */
struct lvt_stay {
    uint32_t turn;
    uint64_t on_ms;
};

struct lvt_ward {
    unsigned number; /* from 1 */
    struct lvt_blackbox *box;
    pid_t pid; /* 0: it is dead */
    int line;
    uint64_t started_ms, start_at_ms; /* the latter when it is dead */
    uint64_t absent_at_ms;            /* since when none has beaten in this place */
    uint32_t beats;
    unsigned deaths; /* in a row */
    bool stopped;    /* by a signal such as SIGSTOP: time does not count */
    int unsent;      /* a signal that it could not be sent, or 0 */
    int hung;        /* the seat that it was killed for, plus one */
    struct lvt_stay stays[LVT_SEATS_MAX];
    uint32_t pardons; /* that were read */
    bool owes_reload; /* asked for, and not counted since */
    uint32_t reloads; /* counted then */
    bool owes_report;
    struct lvt_line_answer answer; /* what has come of one, of so many bytes */
    size_t received;
    struct lvt_buffer incoming; /* and of its metrics */
    struct lvt_report report;   /* the last; its metrics are in the next one */
    struct lvt_buffer metrics;
    bool reported; /* since it started */
};

struct lvt_supervisor {
    struct lvt_supervisor_options options;
    const struct lvt_log *log;
    struct lvt_charges *charges; /* shared memory, with all the boxes behind it */
    struct lvt_blackbox *boxes;
    size_t shared_bytes;
    struct lvt_charges_file *file;
    struct lvt_server *server; /* NULL: no pages */
    struct lvt_notify notify;
    int signals; /* a signalfd */
    uint64_t started_ms, looked_ms, kill_at_ms, pages_due_ms;
    bool announced, everything_ready, reloading, collecting;
    bool killing; /* all lanes: they had time enough, or there is none */
    uint64_t collect_until_ms;
    int stopping; /* 1: in order; 2: at once */
    int last_signal;
    struct leveret_error failure;
    struct lvt_buffer departed; /* the counters of lanes that are gone */
    uint64_t departed_outcomes[LVT_OUTCOME_COUNT];
    uint64_t restarts;
    size_t count;
    struct lvt_ward wards[];
};

/* supervisor.c: the beginning of the end, whoever wants it. */
void lvt_supervisor_stop(struct lvt_supervisor *supervisor);

/* wards.c */
/* Forks. True in the lane, which has *ret_post then. */
bool lvt_ward_start(struct lvt_supervisor *supervisor, struct lvt_ward *ward,
                    struct lvt_post *ret_post);
/* It has died: finds out why, and when to start it again. */
void lvt_ward_died(struct lvt_supervisor *supervisor, struct lvt_ward *ward, int status);
/* Every lane's beats and seats. `since_ms` is how long ago that was done last. */
void lvt_wards_look(struct lvt_supervisor *supervisor, uint64_t now_ms, uint64_t since_ms);
void lvt_wards_signal(struct lvt_supervisor *supervisor, int number);
/* Has shown lately that it is alive, or has just been started. */
bool lvt_ward_answers(const struct lvt_supervisor *supervisor, const struct lvt_ward *ward,
                      uint64_t now_ms);
/* Will not come back by itself: it does not answer, or for long none has come up in its place. */
bool lvt_ward_lost(const struct lvt_supervisor *supervisor, const struct lvt_ward *ward,
                   uint64_t now_ms);

/* judge.c */
/* Charges the event that ended the lane. */
void lvt_judge(struct lvt_supervisor *supervisor, struct lvt_ward *ward, int status);
/* Takes back what lanes say is not to blame. */
void lvt_judge_pardons(struct lvt_supervisor *supervisor, struct lvt_ward *ward);

/* reports.c */
/* For the server: asks every lane. */
void lvt_reports_asked(void *ctx);
/* The lane's line is readable. */
void lvt_report_receive(struct lvt_ward *ward);
/* The lane is gone: its counters stay. */
void lvt_report_depart(struct lvt_supervisor *supervisor, struct lvt_ward *ward);
/* Answers the pages once all that can has reported. */
void lvt_reports_step(struct lvt_supervisor *supervisor, uint64_t now_ms);

#endif
