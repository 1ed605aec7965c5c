/* The ledger over PostgreSQL: who runs an event (claims), that it has run (records), and the
 * transactions of handlers. One ledger belongs to one loop and one thread. */
#ifndef LEVERET_LEDGER_LEDGER_H
#define LEVERET_LEDGER_LEDGER_H

#include "base/error.h"
#include "base/log.h"
#include "engine/ports.h"

struct uv_loop_s;
struct lvt_ledger;

struct lvt_ledger_options {
    const char *url;
    const char *name;             /* processor_name of the records */
    uint32_t pool;                /* connections for transactions of handlers, opened when needed */
    uint32_t max_claims;          /* locks held at most; claims over it wait */
    uint64_t retention_ms;        /* records older than this are deleted; 0 keeps them for ever */
    uint64_t outbox_retention_ms; /* how long events are kept after they were sent */
    uint64_t max_body_bytes;      /* of an event of the outbox */
    bool guest;                   /* leaves the housekeeping and the outbox to the workers */
    const struct lvt_log *log;
    struct lvt_ledger_sink sink;
    struct uv_loop_s *loop;
};

/* Copies url and name; log and loop must outlive the ledger. LEVERET_CONFIG: the URL is not valid.
 */
enum leveret_code lvt_ledger_new(const struct lvt_ledger_options *options,
                                 struct lvt_ledger **ret_ledger,
                                 struct leveret_error *err) LVT_MUST_CHECK;

/* Connects in the background, for as long as it takes. */
void lvt_ledger_start(struct lvt_ledger *ledger);

struct lvt_ledger_port lvt_ledger_port(struct lvt_ledger *ledger);

/* The numbers are known to the worker that relays, and -1 elsewhere. */
struct lvt_outbox_status {
    bool relaying;   /* it is this worker */
    int64_t pending; /* rows that have not been sent; counted up to 100,000 */
    int64_t lag_ms;  /* how old the oldest of them is */
    int64_t failed;  /* rows that cannot be published; counted as far */
};

struct lvt_ledger_status {
    bool ready;
    uint32_t claims_held;    /* events in hand, each with its lock */
    uint32_t claims_waiting; /* for a lock: asked and not answered */
    struct lvt_outbox_status outbox;
    bool failed; /* never was ready, and will not be until somebody mends `failure` */
    struct leveret_error failure;
};

void lvt_ledger_status(const struct lvt_ledger *ledger, struct lvt_ledger_status *ret_status);

/* Closes every session, which unlocks and rolls back what is open; no callback comes any more,
 * except `closed`, from the loop. */
void lvt_ledger_close(struct lvt_ledger *ledger, void (*closed)(void *ctx), void *ctx);
void lvt_ledger_free(struct lvt_ledger *ledger); /* after closed, or when never started */

/* Creates or upgrades the tables. Blocks. Tells what it does, a line at a time.
 * LEVERET_UNAVAILABLE: the server cannot be reached; LEVERET_CONFIG: it refuses us;
 * LEVERET_REFUSED: it refused a statement, and nothing was changed. */
enum leveret_code lvt_ledger_migrate(const char *url, void (*progress)(void *ctx, const char *line),
                                     void *ctx, struct leveret_error *err) LVT_MUST_CHECK;

/* Its client library and version, such as "libpq 15.18". Static storage. */
const char *lvt_ledger_library(void);

#endif
