/* The interface between leveret and its plugins: handlers that are shared objects.
 *
 * A plugin is one .so in a folder of handlers. It exports one function, leveret_plugin_entry, which
 * returns a descriptor: the events that it handles, its options, and three callbacks. leveret hands
 * it a table of functions, the host, for everything else. The whole of a plugin that logs:
 *
 *     #include <leveret/plugin.h>
 *
 *     static const struct leveret_host *host;
 *
 *     static int32_t open_plugin(struct leveret_handler *handler, struct leveret_text config,
 *                                void **ret_self, char *error, size_t error_size) {
 *         return 0;
 *     }
 *
 *     static int32_t handle(void *self, struct leveret_event event) {
 *         host->event_log(event, LEVERET_LOG_INFO, "a ticket was created", NULL, 0);
 *         return LEVERET_DONE;
 *     }
 *
 *     static void close_plugin(void *self) {
 *     }
 *
 *     static const char *const events[] = {"ticket.created", NULL};
 *
 *     static const struct leveret_plugin plugin = {
 *         LEVERET_PLUGIN_HEAD, "hello", "1.0", events, NULL, 0, open_plugin, handle, close_plugin,
 *     };
 *
 *     const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *the_host) {
 *         host = the_host;
 *         return &plugin;
 *     }
 *
 *     cc -shared -fPIC -o handlers/hello.so hello.c
 *
 * Threads. A lane runs all its handlers on one thread, and a plugin's callbacks with them: whoever
 * blocks there holds up every event of the lane. So there are two kinds of plugins:
 *   - Without a flag, `handle` must return at once. What takes time is asked for with a callback;
 *     `handle` then returns LEVERET_PENDING and somebody calls finish later, on any thread.
 *   - With LEVERET_PLUGIN_BLOCKING, each event is handled on a thread of a pool, as many as the
 *     option `concurrency` allows (64 at most); the same calls, without a callback, wait.
 *
 * Ownership. Every pointer that crosses belongs to the side it came from. What is passed to a
 * function is copied before it returns, where it is needed for longer. What a function hands out is
 * good for as long as its comment says.
 *
 * Failures. Nothing here throws, exits or sets errno; each function's comment tells what it returns
 * when it cannot do what is asked. A plugin must not let a C++ exception or a longjmp leave it.
 * One that calls exit() ends its lane at once, as a crash does; what it has registered with atexit
 * may not run.
 *
 * Versions. The major number changes when a plugin has to be compiled anew, the minor one when
 * something is appended. leveret runs plugins of its own major version and of no newer minor one.
 *
 *   1.0  the first version
 */
#ifndef LEVERET_PLUGIN_H
#define LEVERET_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LEVERET_PLUGIN_MAJOR 1
#define LEVERET_PLUGIN_MINOR 0

#define LEVERET_PLUGIN_EXPORT __attribute__((visibility("default")))

/* ---- values ---- */

/* A run of bytes that somebody else owns; not NUL-terminated. */
struct leveret_text {
    const char *data;
    size_t len;
};

/* A NULL string is an empty run. */
static inline struct leveret_text leveret_text_of(const char *string) {
    struct leveret_text text = {string, 0};
    while (string && string[text.len])
        text.len++;
    return text;
}

/* An event in hand. A value, to be copied and kept freely; its fields mean nothing to a plugin.
 * Of use until the event is finished; afterwards every function that gets it answers so, and does
 * nothing. */
struct leveret_event {
    void *slot;
    uint64_t generation;
};

/* The plugin as the host knows it: for log lines that belong to no event. Good from open until
 * close has returned. */
struct leveret_handler;

/* What `handle` returns and finish takes. Anything else is a failed attempt, with that reason. */
enum leveret_plugin_verdict {
    LEVERET_DONE = 0,    /* commit: handled */
    LEVERET_RETRY = 1,   /* roll back: a failed attempt, to be made again, or the dead letters */
    LEVERET_REJECT = 2,  /* roll back: to the dead letters at once */
    LEVERET_DROP = 3,    /* commit: done, counted as dropped */
    LEVERET_SNOOZE = 4,  /* roll back: again in after_ms, at no cost of an attempt */
    LEVERET_PENDING = 5, /* not yet: finish will be called */
};

enum leveret_log_level {
    LEVERET_LOG_DEBUG = 0,
    LEVERET_LOG_INFO = 1,
    LEVERET_LOG_WARN = 2,
    LEVERET_LOG_ERROR = 3,
};

enum leveret_field_kind {
    LEVERET_FIELD_TEXT = 0,
    LEVERET_FIELD_INTEGER = 1,
    LEVERET_FIELD_NUMBER = 2,
    LEVERET_FIELD_BOOLEAN = 3, /* `integer` is 0 or 1 */
};

/* Of a log line. */
struct leveret_field {
    const char *key;
    int32_t kind; /* enum leveret_field_kind: tells which of these counts */
    struct leveret_text text;
    int64_t integer;
    double number;
};

static inline struct leveret_field leveret_field_text(const char *key, struct leveret_text text) {
    struct leveret_field field = {key, LEVERET_FIELD_TEXT, text, 0, 0};
    return field;
}

static inline struct leveret_field leveret_field_integer(const char *key, int64_t integer) {
    struct leveret_field field = {key, LEVERET_FIELD_INTEGER, {NULL, 0}, integer, 0};
    return field;
}

/* ---- what is known of an event ---- */

/* Texts are empty where the event has none. More fields may follow in later versions: `size` tells
 * which are there. */
struct leveret_event_info {
    size_t size; /* of this struct, in bytes */
    struct leveret_text type;
    struct leveret_text id;
    struct leveret_text time;     /* as its envelope spells it */
    struct leveret_text payload;  /* valid JSON */
    struct leveret_text body;     /* the whole message, as it was published */
    struct leveret_text exchange; /* as first published, as is the next one */
    struct leveret_text routing_key;
    struct leveret_text queue;
    uint32_t attempt;    /* starts at 1 */
    int32_t priority;    /* -1: none */
    size_t header_count; /* for header_at */
};

enum leveret_header_kind {
    LEVERET_HEADER_VOID = 0,
    LEVERET_HEADER_BOOLEAN = 1, /* `integer` is 0 or 1 */
    LEVERET_HEADER_INTEGER = 2, /* a timestamp too: seconds since 1970 */
    LEVERET_HEADER_NUMBER = 3,  /* a decimal too, and what does not fit `integer` */
    LEVERET_HEADER_TEXT = 4,    /* bytes too */
    LEVERET_HEADER_NESTED = 5,  /* an array or a table, which is not shown */
};

struct leveret_header {
    struct leveret_text name;
    int32_t kind; /* enum leveret_header_kind: tells which of these counts */
    int64_t integer;
    double number;
    struct leveret_text text;
};

enum leveret_json_kind {
    LEVERET_JSON_MISSING = 0,
    LEVERET_JSON_NULL = 1,
    LEVERET_JSON_BOOLEAN = 2,
    LEVERET_JSON_NUMBER = 3,
    LEVERET_JSON_STRING = 4,
    LEVERET_JSON_ARRAY = 5,
    LEVERET_JSON_OBJECT = 6,
};

/* ---- effects ---- */

enum leveret_status {
    LEVERET_STATUS_OK = 0,
    LEVERET_STATUS_ERROR = 1,     /* it was tried, and refused or failed: `error` tells why */
    LEVERET_STATUS_CANCELLED = 2, /* the event is over: timed out, finished, or its lane closes */
    LEVERET_STATUS_INVALID = 3,   /* not done: the call is wrong, and `error` tells how */
};

enum leveret_column_kind {
    LEVERET_COLUMN_TEXT = 0,
    LEVERET_COLUMN_INTEGER = 1,
    LEVERET_COLUMN_NUMBER = 2,
    LEVERET_COLUMN_BOOLEAN = 3, /* "t" or "f" */
    LEVERET_COLUMN_JSON = 4,
};

struct leveret_column {
    struct leveret_text name;
    int32_t kind; /* enum leveret_column_kind */
};

enum leveret_reply_kind {
    LEVERET_REPLY_NIL = 0,
    LEVERET_REPLY_STATUS = 1, /* such as "OK", in `text` */
    LEVERET_REPLY_INTEGER = 2,
    LEVERET_REPLY_STRING = 3,
    LEVERET_REPLY_ARRAY = 4,
    LEVERET_REPLY_ERROR = 5, /* only inside an array */
};

/* Redis's. */
struct leveret_reply {
    int32_t kind; /* enum leveret_reply_kind: tells which of these counts */
    int64_t integer;
    struct leveret_text text;
    const struct leveret_reply *items;
    size_t count;
};

struct leveret_pair {
    struct leveret_text name, value;
};

/* What a call has come to. More fields may follow in later versions: `size` tells which are there.
 */
struct leveret_answer {
    size_t size;               /* of this struct, in bytes */
    int32_t status;            /* enum leveret_status */
    struct leveret_text error; /* for a person; empty with OK */
    char sqlstate[8];          /* query: of PostgreSQL's error; else "" */
    int64_t
        count; /* query: rows that were changed; invalidate: keys removed, -1: after the commit */
    /* query: row_count times column_count cells, row by row; data NULL is SQL's NULL */
    size_t row_count, column_count;
    const struct leveret_column *columns;
    const struct leveret_text *cells;
    const struct leveret_reply *reply; /* redis; NULL unless OK */
    /* http */
    int32_t http_status;
    const struct leveret_pair *http_headers; /* names in lower case */
    size_t http_header_count;
    struct leveret_text http_body;
    struct leveret_text id; /* publish: the event's, also where none was given */
};

/* Called once for each call that was asked with it, on the lane's thread, after that call has
 * returned; with LEVERET_STATUS_CANCELLED when the event ends before the answer is there. The
 * answer is good until it returns. */
typedef void leveret_answered(void *ctx, const struct leveret_answer *answer);

struct leveret_http_request {
    size_t size;                /* sizeof(struct leveret_http_request) */
    struct leveret_text method; /* empty: GET */
    struct leveret_text url;
    struct leveret_text body;
    const struct leveret_pair *headers; /* 100 at most */
    size_t header_count;
    uint64_t timeout_ms; /* 0: the host's own limit */
};

/* An event to publish. Begin with leveret_publish(), which sets the size, and no priority. */
struct leveret_publish {
    size_t size;                          /* of this struct, in bytes */
    struct leveret_text event;            /* its type, and the routing key */
    struct leveret_text payload;          /* a JSON object; empty: one without members */
    struct leveret_text id;               /* 255 bytes at most; empty: a UUID of version 7 */
    struct leveret_text exchange;         /* data NULL: the one of the key rabbitmq.exchange */
    struct leveret_text queue;            /* not empty: straight to this queue, and no exchange */
    uint64_t delay_ms;                    /* handled no sooner; limits.max_delay at most */
    uint64_t ttl_ms;                      /* how long it may wait in its queue; 0: for ever */
    int32_t priority;                     /* 0 to 255; -1: none */
    uint32_t max_attempts;                /* 0: its handler's; limits.max_attempts at most */
    const struct leveret_header *headers; /* BOOLEAN, INTEGER, NUMBER and TEXT */
    size_t header_count;                  /* 100 at most */
};

static inline struct leveret_publish leveret_publish(struct leveret_text event,
                                                     struct leveret_text payload) {
    struct leveret_publish publish = {
        sizeof publish, event, payload, {NULL, 0}, {NULL, 0}, {NULL, 0}, 0, 0, -1, 0, NULL, 0};
    return publish;
}

/* ---- the host ---- */

/* The functions that a plugin may call. It is append-only, and stays where it is: keep the pointer.
 *
 * The functions marked [effect] do something for an event. They have two forms:
 *   - With `done` (plugins without LEVERET_PLUGIN_BLOCKING): they return NULL, and done is called
 *     once, later, on the lane's thread. Only from the lane's thread: in `handle`, or in a
 * callback.
 *   - Without (`done` NULL; blocking plugins): they wait and return the answer, which is good until
 *     the event's next effect or its end. From any thread, one at a time for an event.
 * A call in the wrong form, on a wrong thread or for an event that is over does nothing: it returns
 * an answer at once, INVALID or CANCELLED, and never calls done.
 *
 * An unreachable PostgreSQL or Redis is no answer: the event is over, goes back to wait, and is
 * handled again at no cost of an attempt. Neither is timeout_ms, which is a failed attempt. In both
 * cases what is under way answers CANCELLED. The plugin still finishes such an event, as any other:
 * until then its texts stay good, and it counts among those that the plugin holds. A plugin that
 * holds 1,000 that are over gets no further ones until it finishes some. */
struct leveret_host {
    size_t size; /* of this struct, in bytes; see LEVERET_HOST_HAS */
    uint32_t major, minor;
    const char *version; /* leveret's own, such as "0.1.0" */

    /* -- events: from any thread, but by one thread at a time for one event -- */

    /* What is known of the event, good until the plugin finishes it, also when the event is over
     * before that. NULL once it is finished. */
    const struct leveret_event_info *(*info)(struct leveret_event event);
    /* The header of that name (the first, of several); false: there is none. The texts are good
     * until the event is finished. */
    bool (*header)(struct leveret_event event, const char *name, struct leveret_header *ret_header);
    /* By place, from 0 to info's header_count - 1; false: there is none. */
    bool (*header_at)(struct leveret_event event, size_t index, struct leveret_header *ret_header);
    /* Ends the event, from any thread. `reason` is for RETRY, REJECT and DROP: NULL, or a text of
     * which 1 KiB is kept. `after_ms` is the delay of SNOOZE, and of RETRY, where -1 asks for the
     * delay that the handler's `retry` options give; else it is not looked at. A RETRY after a
     * statement that failed takes the statement's SQLSTATE with it: invalid data (class 22) goes
     * to the dead letters at once, conflicts of transactions (40001, 40P01) run again.
     *
     * Always returns LEVERET_PENDING, so that `handle` can end with
     *     return host->finish(event, LEVERET_RETRY, "the disk is full", 5000);
     *
     * Not more than once for an event: again is logged, and has no effect. */
    int32_t (*finish)(struct leveret_event event, int32_t verdict, const char *reason,
                      int64_t after_ms);

    /* -- the log: from any thread; 32 fields at most -- */

    /* A line with the plugin's name. */
    void (*log)(struct leveret_handler *handler, int32_t level, const char *text,
                const struct leveret_field *fields, size_t field_count);
    /* A line with the plugin's name and the event's type and id. */
    void (*event_log)(struct leveret_event event, int32_t level, const char *text,
                      const struct leveret_field *fields, size_t field_count);

    /* -- JSON: from any thread. `json` is an event's payload or body, the configuration, a value
     * inside one of these, or a text that json_valid has passed. `pointer` is a JSON pointer (RFC
     * 6901) into it: "" is all of it, "/ticket/id", "/tags/0". Numbers are never rounded unseen. --
     */

    bool (*json_valid)(struct leveret_text json);
    /* The kind (enum leveret_json_kind) of the value there, and, where ret_value is not NULL, its
     * text, a slice of `json`. */
    int32_t (*json_at)(struct leveret_text json, const char *pointer,
                       struct leveret_text *ret_value);
    /* Copies a string, its escapes resolved, and a NUL into buffer. Returns its length in bytes;
     * -1 when there is no string there. What does not fit `size` is cut: the length is that of all
     * of it. A string may hold NULs itself. */
    int64_t (*json_string)(struct leveret_text json, const char *pointer, char *buffer,
                           size_t size);
    /* False, and nothing set, when there is no number there, or it is no integer of 64 bits. */
    bool (*json_integer)(struct leveret_text json, const char *pointer, int64_t *ret_integer);
    /* Any number, as the double that is nearest to it. */
    bool (*json_number)(struct leveret_text json, const char *pointer, double *ret_number);
    bool (*json_boolean)(struct leveret_text json, const char *pointer, bool *ret_boolean);
    /* Items of an array or members of an object; -1 when there is neither. */
    int64_t (*json_count)(struct leveret_text json, const char *pointer);
    /* The item of an array or the member of an object at that place, from 0. Returns the length of
     * the member's key, copied as json_string does (0 for an item), and its value's text; -1 when
     * there is none. Walks from the first one on. */
    int64_t (*json_member)(struct leveret_text json, const char *pointer, size_t index,
                           char *key_buffer, size_t key_size, struct leveret_text *ret_value);
    /* Writes the text as a JSON string, with its quotes, and a NUL into buffer; bytes that are not
     * UTF-8 become U+FFFD. Returns its length; when that is `size` or more nothing was written. -1:
     * out of memory. */
    int64_t (*json_quote)(struct leveret_text text, char *buffer, size_t size);

    /* -- effects -- */

    /* [effect] One SQL statement, with $1, $2... for its parameters, which are texts (data NULL is
     * NULL). All statements of an event share one transaction, which holds the ledger's record too:
     * it commits with DONE and DROP, once, whatever crashes, and is rolled back else. Statements
     * that are asked for together run in that order. More than 16 MiB of rows are an error, with
     * sqlstate 54000, and the transaction's end. */
    const struct leveret_answer *(*query)(struct leveret_event event, struct leveret_text sql,
                                          const struct leveret_text *params, size_t param_count,
                                          leveret_answered *done, void *ctx);
    /* [effect] One Redis command: its name and arguments. */
    const struct leveret_answer *(*redis)(struct leveret_event event,
                                          const struct leveret_text *words, size_t word_count,
                                          leveret_answered *done, void *ctx);
    /* [effect] Removes the keys that fit any of the patterns (Redis's globs); `count` is how many.
     * With a transaction open it happens after the commit, and a crash in between does not lose it:
     * `count` is -1. */
    const struct leveret_answer *(*invalidate)(struct leveret_event event,
                                               const struct leveret_text *patterns,
                                               size_t pattern_count, leveret_answered *done,
                                               void *ctx);
    /* [effect] ERROR when there was no response; a response of any status is OK. */
    const struct leveret_answer *(*http)(struct leveret_event event,
                                         const struct leveret_http_request *request,
                                         leveret_answered *done, void *ctx);
    /* [effect] Answers after delay_ms, which count against timeout_ms. */
    const struct leveret_answer *(*sleep)(struct leveret_event event, uint64_t delay_ms,
                                          leveret_answered *done, void *ctx);
    /* [effect] Publishes an event: persistent, and answered with its `id` once RabbitMQ has
     * confirmed it. With a transaction open it is answered once it is written there, and goes out
     * when that commits, then at least once, or never; without, it is out even if this event is
     * rolled back or handled again. Published again under the same id it takes effect once. The
     * trace of the event in hand (traceparent, tracestate) goes along, unless `headers` has one.
     * ERROR, and nothing is out: a field is wrong or over its limit (`error` names it), the payload
     * is no JSON object, no queue takes the event, or RabbitMQ refuses it; after an error of
     * PostgreSQL's the transaction can only be rolled back. While RabbitMQ is away the event waits,
     * and timeout_ms does not count. */
    const struct leveret_answer *(*publish)(struct leveret_event event,
                                            const struct leveret_publish *publish,
                                            leveret_answered *done, void *ctx);
};

/* Whether the running host has a function that was appended after the version the plugin asks for
 * in its descriptor. */
#define LEVERET_HOST_HAS(host, function)                                                           \
    ((host)->size >=                                                                               \
     offsetof(struct leveret_host, function) + sizeof(((struct leveret_host *)0)->function))

/* ---- the plugin ---- */

/* Each event on a thread of the pool. */
#define LEVERET_PLUGIN_BLOCKING 1u

/* What a plugin is. Static: it stays as it is until close has returned. */
struct leveret_plugin {
    size_t size; /* sizeof(struct leveret_plugin) */
    uint32_t major, minor;
    const char *name;    /* for people; the handler's own name is its file's */
    const char *version; /* for people, of any form */
    /* Types of events, `*` for one word and `#` for any; ends with NULL. */
    const char *const *events;
    /* NULL, or a JSON object of the options that a Lua handler's table may have:
     * "{\"queue\": \"x\", \"concurrency\": 4, \"retry\": {\"max\": 5}}". What the configuration
     * says in plugins.NAME.handler wins over it. */
    const char *options;
    uint32_t flags; /* LEVERET_PLUGIN_BLOCKING or 0 */

    /* Called once, before any event, on the thread that loads handlers, perhaps while the plugin's
     * former version still handles events. `config` is the rest of plugins.NAME, a JSON object;
     * good until open returns. Returns 0 and sets *ret_self; or anything else, having freed what it
     * made and written a text for a person, with a NUL, to error: the plugin is not loaded, and the
     * former version stays. */
    int32_t (*open)(struct leveret_handler *handler, struct leveret_text config, void **ret_self,
                    char *error, size_t error_size);
    /* Handles one event; returns an enum leveret_plugin_verdict. On the lane's thread, one at a
     * time; of a blocking plugin on a thread of its pool, several at a time. */
    int32_t (*handle)(void *self, struct leveret_event event);
    /* Called once, when no event is in hand but those that are over, and `handle` has returned from
     * every thread. The plugin must have ended its own threads when it returns: the code is
     * unmapped then. On the lane's thread or one of the pool. */
    void (*close)(void *self);
};

/* The first three members of a descriptor. */
#define LEVERET_PLUGIN_HEAD                                                                        \
    sizeof(struct leveret_plugin), LEVERET_PLUGIN_MAJOR, LEVERET_PLUGIN_MINOR

/* The one function that a plugin exports. It does nothing but keep `host` and return its
 * descriptor: it is called in a child process first, to see whether it can be. NULL: the plugin
 * will not run with this host. */
LEVERET_PLUGIN_EXPORT const struct leveret_plugin *
leveret_plugin_entry(const struct leveret_host *host);

#ifdef __cplusplus
}
#endif

#endif
