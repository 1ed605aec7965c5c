/* What `leveret exec` shows. */
#ifndef LEVERET_CLI_EXEC_PRINT_H
#define LEVERET_CLI_EXEC_PRINT_H

#include "exec/recorder.h"

struct lvt_exec_printer {
    bool json;    /* a document for each line */
    bool colours; /* for terminals */
    bool live;    /* else answers are stand-ins, and are marked as such */
    /* the printer's own */
    unsigned steps;
    bool asked; /* for more than a log line or a sleep */
};

/* The printer outlives the watcher. */
struct lvt_watcher lvt_exec_printer_watcher(struct lvt_exec_printer *printer);

/* The last words: what became of the event, which some handler was given. */
void lvt_exec_print_result(struct lvt_exec_printer *printer, const struct lvt_exec_result *result);

#endif
