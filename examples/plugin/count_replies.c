/* Counts the replies to each ticket in PostgreSQL, once for each message whatever crashes, and
 * tells Redis's readers that the ticket has changed. Run this first:
 *
 *     create table replies (ticket_id text primary key, count bigint not null);
 */
#include <stdio.h>
#include <stdlib.h>

#include <leveret/plugin.h>

static const struct leveret_host *host;

/* What is kept of an event from one answer to the next. */
struct reply {
    struct leveret_event event;
    char ticket[64];
};

static void end(struct reply *reply, const struct leveret_answer *failed) {
    char reason[256] = "";
    if (failed)
        snprintf(reason, sizeof reason, "%.*s", (int)failed->error.len, failed->error.data);
    host->finish(reply->event, failed ? LEVERET_RETRY : LEVERET_DONE, reason, -1);
    free(reply);
}

static void invalidated(void *ctx, const struct leveret_answer *answer) {
    end(ctx, answer->status == LEVERET_STATUS_OK ? NULL : answer);
}

static void counted(void *ctx, const struct leveret_answer *answer) {
    struct reply *reply = ctx;
    char pattern[80];
    if (answer->status != LEVERET_STATUS_OK) {
        end(reply, answer);
        return;
    }
    const struct leveret_field fields[] = {
        leveret_field_text("ticket", leveret_text_of(reply->ticket)),
        leveret_field_text("replies", answer->cells[0]),
    };
    host->event_log(reply->event, LEVERET_LOG_INFO, "reply counted", fields, 2);
    snprintf(pattern, sizeof pattern, "ticket:%s:*", reply->ticket);
    const struct leveret_text text = leveret_text_of(pattern);
    const struct leveret_answer *refused =
        host->invalidate(reply->event, &text, 1, invalidated, reply);
    if (refused)
        end(reply, refused);
}

static int32_t handle(void *self, struct leveret_event event) {
    static const char sql[] =
        "insert into replies (ticket_id, count) values ($1, 1) "
        "on conflict (ticket_id) do update set count = replies.count + 1 "
        "returning count";
    struct reply *reply = malloc(sizeof *reply);
    (void)self;
    if (!reply)
        return LEVERET_RETRY;
    reply->event = event;
    int64_t len = host->json_string(host->info(event)->payload, "/ticketId", reply->ticket,
                                    sizeof reply->ticket);
    if (len < 0 || len >= (int64_t)sizeof reply->ticket) {
        free(reply);
        return host->finish(event, LEVERET_REJECT, "the payload has no usable ticketId", -1);
    }
    const struct leveret_text ticket = leveret_text_of(reply->ticket);
    const struct leveret_answer *refused =
        host->query(event, leveret_text_of(sql), &ticket, 1, counted, reply);
    if (refused)
        end(reply, refused);
    return LEVERET_PENDING;
}

static int32_t open_plugin(struct leveret_handler *handler, struct leveret_text config,
                           void **ret_self, char *error, size_t error_size) {
    (void)handler, (void)config, (void)ret_self, (void)error, (void)error_size;
    return 0;
}

static void close_plugin(void *self) {
    (void)self;
}

static const char *const events[] = {"message.sent", NULL};

static const struct leveret_plugin plugin = {
    LEVERET_PLUGIN_HEAD, "count_replies", "1.0",        events, "{\"queue\": \"replies.queue\"}", 0,
    open_plugin,         handle,          close_plugin,
};

const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *the_host) {
    host = the_host;
    return &plugin;
}
