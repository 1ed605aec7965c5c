/* The C twin of handlers/opsdesk: the same log lines, and the same keys made stale. Other events
 * get their patterns from the configuration. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rules.h"

#define FIELDS_MAX 3
/* Of one event's patterns, expanded. */
#define EXPANDED_BYTES 8192
/* Of a logged text that has escapes. */
#define UNESCAPED_BYTES 1024

const struct leveret_host *host;

/* ---- what the four events of OpsDesk say ---- */

struct line {
    const char *text;
    struct {
        const char *key, *pointer;
    } fields[FIELDS_MAX]; /* by key, as Lua's are */
};

struct ticket_event {
    const char *type;
    struct line lines[2];
    const char *patterns[3];
};

static const struct ticket_event ticket_events[] = {
    {"ticket.created",
     {{"ticket created", {{"ticket", "/id"}}},
      {"[FAKE] email to ticket owner", {{"owner", "/ownerId"}}}},
     {"tickets:list:*"}},
    {"ticket.updated",
     {{"ticket updated", {{"ticket", "/id"}}},
      {"[FAKE] update notification to ticket watchers", {{"ticket", "/id"}}}},
     {"tickets:list:*", "tickets:{id}"}},
    {"ticket.status_changed",
     {{"ticket status changed", {{"from", "/oldStatus"}, {"ticket", "/id"}, {"to", "/newStatus"}}},
      {"[FAKE] status notification to ticket owner", {{"ticket", "/id"}}}},
     {"tickets:list:*", "tickets:{id}"}},
    {"message.sent",
     {{"message sent", {{"author", "/authorId"}, {"ticket", "/ticketId"}}},
      {"[FAKE] message notification to ticket watchers", {{"ticket", "/ticketId"}}}},
     {NULL}},
};
#define TICKET_EVENT_COUNT (sizeof ticket_events / sizeof *ticket_events)

static const struct ticket_event *find_ticket_event(struct leveret_text type) {
    for (size_t i = 0; i < TICKET_EVENT_COUNT; i++) {
        const char *name = ticket_events[i].type;
        if (strlen(name) == type.len && memcmp(name, type.data, type.len) == 0)
            return &ticket_events[i];
    }
    return NULL;
}

/* False: the payload has no such value. Texts are slices of the payload; those with escapes are
 * resolved in `scratch`, and cut there. */
static bool read_field(struct leveret_text payload, const char *pointer, char *scratch,
                       struct leveret_field *field) {
    struct leveret_text raw;
    switch (host->json_at(payload, pointer, &raw)) {
    case LEVERET_JSON_MISSING:
        return false;
    case LEVERET_JSON_BOOLEAN:
        field->kind = LEVERET_FIELD_BOOLEAN;
        field->integer = raw.data[0] == 't';
        return true;
    case LEVERET_JSON_NUMBER:
        field->kind = LEVERET_FIELD_INTEGER;
        if (host->json_integer(payload, pointer, &field->integer))
            return true;
        field->kind = LEVERET_FIELD_NUMBER;
        return host->json_number(payload, pointer, &field->number);
    case LEVERET_JSON_STRING:
        field->text = (struct leveret_text){raw.data + 1, raw.len - 2};
        if (memchr(raw.data, '\\', raw.len)) {
            int64_t len = host->json_string(payload, pointer, scratch, UNESCAPED_BYTES);
            size_t fits = len < UNESCAPED_BYTES ? (size_t)len : UNESCAPED_BYTES - 1;
            field->text = (struct leveret_text){scratch, len < 0 ? 0 : fits};
        }
        return true;
    default:
        field->text = raw;
        return true;
    }
}

static void write_line(struct leveret_event event, struct leveret_text payload,
                       const struct line *line) {
    struct leveret_field fields[FIELDS_MAX] = {0};
    char scratch[FIELDS_MAX][UNESCAPED_BYTES];
    size_t count = 0;
    for (size_t i = 0; i < FIELDS_MAX && line->fields[i].key; i++) {
        fields[count].key = line->fields[i].key;
        if (read_field(payload, line->fields[i].pointer, scratch[count], &fields[count]))
            count++;
    }
    host->event_log(event, LEVERET_LOG_INFO, line->text, fields, count);
}

/* ---- the keys ---- */

static void invalidated(void *ctx, const struct leveret_answer *answer) {
    struct leveret_event *kept = ctx, event = *kept;
    char reason[256];
    free(kept);
    if (answer->status == LEVERET_STATUS_OK) {
        const struct leveret_field count = leveret_field_integer("count", answer->count);
        host->event_log(event, LEVERET_LOG_INFO, "invalidated cache keys", &count, 1);
        host->finish(event, LEVERET_DONE, NULL, -1);
        return;
    }
    snprintf(reason, sizeof reason, "%.*s", (int)answer->error.len,
             answer->error.data ? answer->error.data : "");
    host->finish(event, LEVERET_RETRY, reason, -1);
}

static int32_t invalidate(struct leveret_event event, struct leveret_text payload,
                          const char *const *patterns, size_t count) {
    struct leveret_text texts[PATTERNS_MAX];
    char expanded[EXPANDED_BYTES], error[200];
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t len = pattern_expand(patterns[i], payload, expanded + used, sizeof expanded - used,
                                     error, sizeof error);
        if (len < 0)
            return host->finish(event, LEVERET_REJECT, error, -1);
        texts[i] = (struct leveret_text){expanded + used, (size_t)len};
        used += (size_t)len;
    }
    struct leveret_event *kept = malloc(sizeof *kept);
    if (!kept)
        return host->finish(event, LEVERET_RETRY, "out of memory", -1);
    *kept = event;
    const struct leveret_answer *refused = host->invalidate(event, texts, count, invalidated, kept);
    if (refused)
        invalidated(kept, refused);
    return LEVERET_PENDING;
}

/* ---- the plugin ---- */

static int32_t open_plugin(struct leveret_handler *handler, struct leveret_text config,
                           void **ret_self, char *error, size_t error_size) {
    struct rules *rules = calloc(1, sizeof *rules);
    (void)handler;
    if (!rules) {
        snprintf(error, error_size, "out of memory");
        return 1;
    }
    if (!rules_read(config, rules, error, error_size)) {
        free(rules);
        return 1;
    }
    *ret_self = rules;
    return 0;
}

static int32_t handle(void *self, struct leveret_event event) {
    const struct leveret_event_info *info = host->info(event);
    const struct rule *rule = rules_find(self, info->type);
    const struct ticket_event *known = find_ticket_event(info->type);
    if (!rule && !known)
        return host->finish(event, LEVERET_DROP, "no patterns for events of this type", -1);
    if (host->json_at(info->payload, "", NULL) != LEVERET_JSON_OBJECT)
        return host->finish(event, LEVERET_REJECT, "the payload is no object", -1);
    for (size_t i = 0; known && i < 2; i++)
        write_line(event, info->payload, &known->lines[i]);
    const char *const *patterns =
        rule ? (const char *const *)rule->patterns : (const char *const *)known->patterns;
    size_t count = 0;
    while (patterns[count])
        count++;
    return count > 0 ? invalidate(event, info->payload, patterns, count) : LEVERET_DONE;
}

static void close_plugin(void *self) {
    rules_free(self);
    free(self);
}

static const char *const events[] = {"ticket.created", "ticket.updated", "ticket.status_changed",
                                     "message.sent", NULL};

static const struct leveret_plugin plugin = {
    LEVERET_PLUGIN_HEAD, "cache_invalidate", "1.0", events, NULL, 0, open_plugin, handle,
    close_plugin,
};

const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *the_host) {
    host = the_host;
    return &plugin;
}
