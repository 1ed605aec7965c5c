#include "ledger/ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/state.h"

/* ---- soon ---- */

static void on_soon(uv_idle_t *idle) {
    struct lvt_ledger *ledger = idle->data;
    uv_idle_stop(idle);
    lvt_tx_answer_deferred(ledger);
    lvt_round_start(ledger);
}

void lvt_ledger_soon(struct lvt_ledger *ledger) {
    if (ledger->started && !ledger->closing)
        uv_idle_start(&ledger->soon, on_soon);
}

/* ---- port ---- */

static bool is_ready(void *self) {
    const struct lvt_ledger *ledger = self;
    return ledger->session == LVT_SESSION_READY;
}

struct lvt_ledger_port lvt_ledger_port(struct lvt_ledger *ledger) {
    return (struct lvt_ledger_port){
        .self = ledger,
        .ready = is_ready,
        .claim = lvt_claims_ask,
        .record = lvt_claims_record,
        .release = lvt_claims_release,
        .tx_begin = lvt_tx_begin,
        .tx_query = lvt_tx_query,
        .tx_commit = lvt_tx_commit,
        .tx_rollback = lvt_tx_rollback,
        .tx_invalidate = lvt_tx_invalidate,
        .invalidated = lvt_chores_invalidated,
        .tx_publish = lvt_outbox_write,
        .outbox_done = lvt_outbox_done,
    };
}

/* ---- life ---- */

enum leveret_code lvt_ledger_new(const struct lvt_ledger_options *options,
                                 struct lvt_ledger **ret_ledger, struct leveret_error *err) {
    char application[64];
    enum leveret_code code = lvt_pg_check_url(options->url, err);
    if (code != LEVERET_OK)
        return code;
    if (options->pool == 0 || options->max_claims == 0)
        return leveret_fail(err, LEVERET_INVALID, "a ledger needs a pool and claims");
    struct lvt_ledger *ledger = calloc(1, sizeof *ledger);
    if (!ledger)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    snprintf(application, sizeof application, "leveret %.50s", options->name);
    ledger->options = *options;
    ledger->url = strdup(options->url);
    ledger->name = strdup(options->name);
    ledger->application = strdup(application);
    ledger->unlocks = calloc(options->max_claims, sizeof *ledger->unlocks);
    if (!ledger->url || !ledger->name || !ledger->application || !ledger->unlocks) {
        lvt_ledger_free(ledger);
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    }
    ledger->options.url = ledger->url;
    ledger->options.name = ledger->name;
    *ret_ledger = ledger;
    return LEVERET_OK;
}

void lvt_ledger_start(struct lvt_ledger *ledger) {
    /* sessions live from here to close: a ledger that never starts has no handles */
    lvt_round_init(ledger);
    uv_idle_init(ledger->options.loop, &ledger->soon);
    ledger->soon.data = ledger;
    ledger->started = true;
    bool made = lvt_session_init(ledger);
    if (made && !ledger->options.guest)
        made = lvt_chores_init(ledger) && lvt_outbox_init(ledger);
    if (!made) {
        ledger->failed = true;
        leveret_fail(&ledger->failure, LEVERET_NO_MEMORY, "out of memory");
        return;
    }
    lvt_pg_open(ledger->pg); /* the others come after it */
    lvt_ledger_soon(ledger);
}

void lvt_ledger_status(const struct lvt_ledger *ledger, struct lvt_ledger_status *ret_status) {
    *ret_status = (struct lvt_ledger_status){
        .ready = ledger->session == LVT_SESSION_READY,
        .claims_held = ledger->held.count + ledger->to_record.count + ledger->recording.count,
        .claims_waiting = ledger->waiting.count + ledger->round.claims.count,
        .failed = ledger->failed,
        .failure = ledger->failure,
    };
    lvt_outbox_status(ledger, &ret_status->outbox);
}

void lvt_ledger_count_closed(void *ctx) {
    struct lvt_ledger *ledger = ctx;
    if (--ledger->open_handles == 0)
        ledger->closed(ledger->closed_ctx);
}

static void on_idle_closed(uv_handle_t *handle) {
    lvt_ledger_count_closed(handle->data);
}

void lvt_ledger_close(struct lvt_ledger *ledger, void (*closed)(void *ctx), void *ctx) {
    ledger->closing = true;
    ledger->closed = closed;
    ledger->closed_ctx = ctx;
    ledger->open_handles = 1;
    uv_close((uv_handle_t *)&ledger->soon, on_idle_closed);
    lvt_round_close(ledger);
    if (ledger->pg)
        lvt_session_close(ledger);
    lvt_pool_close(ledger);
    lvt_chores_close(ledger);
    lvt_outbox_close(ledger);
}

void lvt_ledger_free(struct lvt_ledger *ledger) {
    if (!ledger)
        return;
    lvt_round_free(ledger);
    lvt_pool_free(ledger);
    lvt_chores_free(ledger);
    lvt_outbox_free(ledger);
    free(ledger->url);
    free(ledger->name);
    free(ledger->application);
    free(ledger->unlocks);
    free(ledger);
}

const char *lvt_ledger_library(void) {
    static char text[64];
    snprintf(text, sizeof text, "libpq %d.%d", PQlibVersion() / 10000, PQlibVersion() % 10000);
    return text;
}
