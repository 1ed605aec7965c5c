/* The configuration, and the table with one row for each of its keys. */
#ifndef LEVERET_CONFIG_CONFIG_H
#define LEVERET_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "config/options.h"

enum lvt_key_type {
    LVT_KEY_TEXT,
    LVT_KEY_SECRET_URL, /* never shown with its password */
    LVT_KEY_INTEGER,    /* uint32_t */
    LVT_KEY_LONG,       /* uint64_t */
    LVT_KEY_NUMBER,     /* double */
    LVT_KEY_BOOLEAN,
    LVT_KEY_DURATION, /* uint64_t in ms; "7d", "30s", "500ms", or a number of ms */
    LVT_KEY_LIST,     /* struct lvt_strings; one text counts as a list of one */
    LVT_KEY_CHOICE,   /* an enum, one of `choices` */
    LVT_KEY_BIND,     /* a list, or false for none: sets bind_none */
    LVT_KEY_COUNT,    /* uint32_t; "auto" is 0 */
    LVT_KEY_JSON,     /* a table of tables, free in form, as JSON text; its values are not shown */
};

struct lvt_key {
    const char *name; /* a path: "rabbitmq.prefetch" */
    enum lvt_key_type type;
    size_t offset;
    const char *initial;        /* the default, as text; NULL: none */
    double min, max;            /* of a number or duration, a text's bytes, a list's items */
    const char *const *choices; /* ends with NULL */
    bool reloadable;
    const char *description;
};

struct lvt_config {
    char *name;
    struct {
        char *url;
        char *exchange;
        uint32_t prefetch;
        enum lvt_queue_type queue_type;
        uint32_t heartbeat_s;
        uint64_t consumer_timeout_ms; /* the broker's, which timeout_ms must stay below half of */
        char *ca_file;                /* NULL: the system's */
    } rabbitmq;
    struct {
        char *url;
        uint32_t pool;
    } postgres;
    struct {
        char *url;
    } redis;
    struct lvt_strings handlers;
    char *plugins; /* a JSON object of objects; NULL: none */
    struct {
        char *queue;
    } dead_letter;
    struct lvt_retry_policy retry;
    struct {
        uint64_t retention_ms;
        uint32_t max_claims;
    } ledger;
    struct {
        uint64_t retention_ms;
    } outbox;
    struct {
        uint32_t max_attempts;
        uint64_t max_delay_ms;
    } limits; /* of what one event may ask for */
    struct {
        char *listen; /* "127.0.0.1:9464"; "" for none */
    } admin;
    struct {
        int level;  /* enum lvt_level */
        int format; /* 0 text, 1 json */
    } log;
    uint64_t timeout_ms;
    uint32_t concurrency;
    uint64_t budget_ms;
    uint64_t memory_kb;
    uint64_t max_body_bytes;
    uint64_t shutdown_timeout_ms;
    uint32_t lanes; /* 0: one for each processor */
    uint32_t crash_limit;
    uint64_t hard_timeout_ms;
    char *state_dir; /* NULL: the usual place */
};

extern const struct lvt_key lvt_config_keys[];
extern const size_t lvt_config_key_count;
/* The options of a handler's file, over struct lvt_handler_options. */
extern const struct lvt_key lvt_handler_keys[];
extern const size_t lvt_handler_key_count;

/* A value on its way into a key. */
enum lvt_value_kind { LVT_VALUE_TEXT, LVT_VALUE_NUMBER, LVT_VALUE_BOOLEAN, LVT_VALUE_LIST };

struct lvt_value {
    enum lvt_value_kind kind;
    const char *text;
    double number;
    bool boolean;
    const char *const *items;
    size_t item_count;
};

/* Fills in the defaults. */
enum leveret_code lvt_config_init(struct lvt_config *config,
                                  struct leveret_error *err) LVT_MUST_CHECK;
/* All of it is the copy's own. */
enum leveret_code lvt_config_copy(const struct lvt_config *config, struct lvt_config *ret_copy,
                                  struct leveret_error *err) LVT_MUST_CHECK;
void lvt_config_free(struct lvt_config *config);

/* Sets the key at `path` in the struct that `keys` describes. LEVERET_CONFIG when the key is
 * unknown (the text proposes the nearest one), has another type, or the value is out of its range.
 */
enum leveret_code lvt_keys_set(const struct lvt_key *keys, size_t key_count, void *target,
                               const char *path, const struct lvt_value *value,
                               struct leveret_error *err) LVT_MUST_CHECK;
/* The same from a text: numbers are parsed, lists split at commas. */
enum leveret_code lvt_keys_set_text(const struct lvt_key *keys, size_t key_count, void *target,
                                    const char *path, const char *text,
                                    struct leveret_error *err) LVT_MUST_CHECK;
/* The key at `path`; NULL. */
const struct lvt_key *lvt_keys_find(const struct lvt_key *keys, size_t key_count, const char *path);
/* Whether keys exist below this path: "rabbitmq" is a table. */
bool lvt_keys_is_table(const struct lvt_key *keys, size_t key_count, const char *path);

/* RABBITMQ_URL, DATABASE_URL, REDIS_URL, and LEVERET_ with a key's path in capitals. An unknown
 * LEVERET_ variable is an error. */
enum leveret_code lvt_config_environment(struct lvt_config *config, char **environ_,
                                         struct leveret_error *err) LVT_MUST_CHECK;

/* What one key cannot tell alone: timeouts against the broker's, retention against the delays. */
enum leveret_code lvt_config_check(const struct lvt_config *config,
                                   struct leveret_error *err) LVT_MUST_CHECK;

/* A handler's options with the configuration's defaults. */
enum leveret_code lvt_handler_options_init(struct lvt_handler_options *options,
                                           const struct lvt_config *config,
                                           struct leveret_error *err) LVT_MUST_CHECK;

/* The same of a handler's own timeout and retries. */
enum leveret_code lvt_handler_options_check(const struct lvt_handler_options *options,
                                            const struct lvt_config *config,
                                            struct leveret_error *err) LVT_MUST_CHECK;

/* A Markdown table of the keys, as `leveret run --help-config` and the README show it. */
void lvt_keys_describe(const struct lvt_key *keys, size_t key_count, struct lvt_buffer *out);

/* A URL as it may be shown: without its password, in the userinfo or as a parameter. */
void lvt_url_redact(const char *url, char *out, size_t size);

#endif
