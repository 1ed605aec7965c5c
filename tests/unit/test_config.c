/* The keys, the configuration and its checks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/log.h"
#include "config/config.h"

static struct lvt_config config;
static struct lvt_handler_options options;
static struct leveret_error err;

static int begin(void **state) {
    (void)state;
    memset(&err, 0, sizeof err);
    return lvt_config_init(&config, &err) == LEVERET_OK &&
                   lvt_handler_options_init(&options, &config, &err) == LEVERET_OK
               ? 0
               : -1;
}

static int end(void **state) {
    (void)state;
    lvt_handler_options_free(&options);
    lvt_config_free(&config);
    return 0;
}

static struct lvt_value text(const char *s) {
    return (struct lvt_value){.kind = LVT_VALUE_TEXT, .text = s};
}

static struct lvt_value number(double n) {
    return (struct lvt_value){.kind = LVT_VALUE_NUMBER, .number = n};
}

static struct lvt_value boolean(bool b) {
    return (struct lvt_value){.kind = LVT_VALUE_BOOLEAN, .boolean = b};
}

static struct lvt_value list(const char *const *items, size_t count) {
    return (struct lvt_value){.kind = LVT_VALUE_LIST, .items = items, .item_count = count};
}

static enum leveret_code set(const char *path, struct lvt_value value) {
    return lvt_keys_set(lvt_config_keys, lvt_config_key_count, &config, path, &value, &err);
}

static enum leveret_code set_option(const char *path, struct lvt_value value) {
    return lvt_keys_set(lvt_handler_keys, lvt_handler_key_count, &options, path, &value, &err);
}

#define ACCEPT(call) assert_int_equal((call), LEVERET_OK)
#define REFUSE(call, expected)                                                                     \
    do {                                                                                           \
        assert_int_equal((call), LEVERET_CONFIG);                                                  \
        assert_string_equal(err.text, (expected));                                                 \
    } while (0)

/* ---- the table ---- */

static void rows_are_whole(void **state) {
    (void)state;
    struct {
        const struct lvt_key *keys;
        size_t count;
    } tables[] = {{lvt_config_keys, lvt_config_key_count},
                  {lvt_handler_keys, lvt_handler_key_count}};
    for (size_t t = 0; t < 2; t++) {
        for (size_t i = 0; i < tables[t].count; i++) {
            const struct lvt_key *key = &tables[t].keys[i];
            assert_true(strlen(key->description) > 10);
            assert_null(strpbrk(key->description, "|\n"));
            assert_true(key->min <= key->max);
            assert_int_equal(key->choices != NULL, key->type == LVT_KEY_CHOICE);
            for (size_t k = 0; k < i; k++) {
                assert_string_not_equal(key->name, tables[t].keys[k].name);
                assert_true(key->offset != tables[t].keys[k].offset);
            }
        }
    }
}

static void defaults(void **state) {
    (void)state;
    assert_string_equal(config.name, "worker");
    assert_string_equal(config.rabbitmq.url, "amqp://guest:guest@localhost:5672/");
    assert_string_equal(config.rabbitmq.exchange, "opsdesk.events");
    assert_int_equal(config.rabbitmq.prefetch, 200);
    assert_int_equal(config.rabbitmq.queue_type, LVT_QUORUM);
    assert_int_equal(config.rabbitmq.heartbeat_s, 10);
    assert_int_equal(config.rabbitmq.consumer_timeout_ms, 1800000);
    assert_null(config.rabbitmq.ca_file);
    assert_string_equal(config.postgres.url, "postgresql:///leveret");
    assert_int_equal(config.postgres.pool, 4);
    assert_string_equal(config.redis.url, "redis://localhost:6379/0");
    assert_int_equal(config.handlers.count, 1);
    assert_string_equal(config.handlers.items[0], "handlers");
    assert_string_equal(config.dead_letter.queue, "dead.letters");
    assert_int_equal(config.retry.max, 3);
    assert_int_equal(config.retry.base_ms, 1000);
    assert_true(config.retry.factor == 2.0);
    assert_int_equal(config.retry.cap_ms, 30000);
    assert_true(config.retry.jitter == 0.0);
    assert_int_equal(config.ledger.retention_ms, 7ull * 86400000);
    assert_int_equal(config.ledger.max_claims, 2000);
    assert_string_equal(config.admin.listen, "127.0.0.1:9464");
    assert_int_equal(config.log.level, LVT_INFO);
    assert_int_equal(config.log.format, 0);
    assert_int_equal(config.timeout_ms, 60000);
    assert_int_equal(config.concurrency, 100);
    assert_int_equal(config.memory_kb, 65536);
    assert_int_equal(config.max_body_bytes, 1048576);
    assert_int_equal(config.shutdown_timeout_ms, 30000);
    ACCEPT(lvt_config_check(&config, &err));
}

static void freeing_is_forgiving(void **state) {
    (void)state;
    lvt_config_free(NULL);
    lvt_handler_options_free(NULL);
    lvt_config_free(&config);
    lvt_config_free(&config);
}

/* ---- values ---- */

static void texts(void **state) {
    (void)state;
    ACCEPT(set("name", text("billing")));
    assert_string_equal(config.name, "billing");
    REFUSE(set("name", text("")), "name must be a text of 1 to 200 bytes, not \"\"");
    REFUSE(set("name", number(5)), "name must be a text of 1 to 200 bytes, not 5");
    REFUSE(set("name", boolean(true)), "name must be a text of 1 to 200 bytes, not true");
    assert_string_equal(config.name, "billing");
    char longer[300];
    memset(longer, 'q', sizeof longer);
    longer[256] = '\0';
    assert_int_equal(set("dead_letter.queue", text(longer)), LEVERET_CONFIG);
    longer[255] = '\0';
    ACCEPT(set("dead_letter.queue", text(longer)));
    ACCEPT(set("admin.listen", text("")));
    assert_string_equal(config.admin.listen, "");
}

static void secrets_are_not_repeated(void **state) {
    (void)state;
    static const char *const keys[] = {"rabbitmq.url", "postgres.url", "redis.url"};
    for (size_t i = 0; i < 3; i++) {
        char *secret = calloc(1, 5001);
        memset(secret, 'S', 5000);
        assert_int_equal(set(keys[i], text(secret)), LEVERET_CONFIG);
        assert_null(strstr(err.text, "SSS"));
        assert_int_equal(set(keys[i], number(314159)), LEVERET_CONFIG);
        assert_null(strstr(err.text, "314159"));
        free(secret);
    }
}

static void numbers(void **state) {
    (void)state;
    ACCEPT(set("rabbitmq.prefetch", number(1)));
    ACCEPT(set("rabbitmq.prefetch", number(65535)));
    assert_int_equal(config.rabbitmq.prefetch, 65535);
    REFUSE(set("rabbitmq.prefetch", number(0)),
           "rabbitmq.prefetch must be a whole number from 1 to 65535, not 0");
    REFUSE(set("rabbitmq.prefetch", number(65536)),
           "rabbitmq.prefetch must be a whole number from 1 to 65535, not 65536");
    REFUSE(set("rabbitmq.prefetch", number(1.5)),
           "rabbitmq.prefetch must be a whole number from 1 to 65535, not 1.5");
    REFUSE(set("rabbitmq.prefetch", text("200")),
           "rabbitmq.prefetch must be a whole number from 1 to 65535, not \"200\"");
    REFUSE(set("rabbitmq.prefetch", list(NULL, 0)),
           "rabbitmq.prefetch must be a whole number from 1 to 65535, not a list of 0");
    assert_int_equal(set("rabbitmq.prefetch", number(-1e300)), LEVERET_CONFIG);
    assert_int_equal(set("rabbitmq.prefetch", number(0.0 / 0.0)), LEVERET_CONFIG);
    assert_int_equal(set("rabbitmq.prefetch", number(1 / 0.0)), LEVERET_CONFIG);
    assert_int_equal(config.rabbitmq.prefetch, 65535);
    ACCEPT(set("retry.factor", number(1.5)));
    assert_true(config.retry.factor == 1.5);
    REFUSE(set("retry.jitter", number(1.01)),
           "retry.jitter must be a number from 0 to 1, not 1.01");
    ACCEPT(set("max_body_bytes", number(134217728)));
    assert_true(config.max_body_bytes == 134217728);
}

static void durations(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"500ms", 500},       {"30s", 30000},          {"10m", 600000}, {"2h", 7200000},
                {"7d", 604800000ull}, {"3650d", 315360000000}, {"5000", 5000}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        const char *key = good[i].ms < 60000 ? "retry.base_ms" : "ledger.retention";
        ACCEPT(set(key, text(good[i].text)));
        assert_true((good[i].ms < 60000 ? config.retry.base_ms : config.ledger.retention_ms) ==
                    good[i].ms);
    }
    ACCEPT(set("ledger.retention", number(90000)));
    assert_int_equal(config.ledger.retention_ms, 90000);
    static const char *const bad[] = {"",
                                      "d",
                                      "-1d",
                                      "7 d",
                                      "7days",
                                      "1.5h",
                                      " 7d",
                                      "7D",
                                      "7dd",
                                      "1d12h",
                                      "0x7d",
                                      "3651d",
                                      "59s",
                                      "1e3ms",
                                      "7d\n",
                                      "inf",
                                      "99999999999999999999d"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(set("ledger.retention", text(bad[i])), LEVERET_CONFIG);
    }
    REFUSE(set("ledger.retention", text("soon")),
           "ledger.retention must be a duration from 1m to 3650d (a number of ms, or a text such "
           "as \"500ms\", \"30s\", \"10m\", \"2h\" or \"7d\"), not \"soon\"");
    assert_int_equal(set("ledger.retention", number(60000.5)), LEVERET_CONFIG);
    assert_int_equal(config.ledger.retention_ms, 90000);
}

static void choices(void **state) {
    (void)state;
    ACCEPT(set("rabbitmq.queue_type", text("classic")));
    assert_int_equal(config.rabbitmq.queue_type, LVT_CLASSIC);
    ACCEPT(set("log.level", text("error")));
    assert_int_equal(config.log.level, LVT_ERROR);
    ACCEPT(set("log.format", text("json")));
    assert_int_equal(config.log.format, 1);
    REFUSE(set("rabbitmq.queue_type", text("stream")),
           "rabbitmq.queue_type must be one of \"quorum\", \"classic\", not \"stream\"");
    REFUSE(set("log.level", text("INFO")),
           "log.level must be one of \"debug\", \"info\", \"warn\", \"error\", not \"INFO\"");
    assert_int_equal(set("log.level", number(1)), LEVERET_CONFIG);
    static const char *const names[] = {"auto", "event", "item", "message", "cloudevents"};
    for (int i = 0; i < 5; i++) {
        ACCEPT(set_option("envelope", text(names[i])));
        assert_int_equal(options.envelope, i);
    }
}

static void lists(void **state) {
    (void)state;
    static const char *const two[] = {"handlers/a", "handlers/b"};
    static const char *const hole[] = {"a", ""};
    ACCEPT(set("handlers", list(two, 2)));
    assert_int_equal(config.handlers.count, 2);
    assert_string_equal(config.handlers.items[1], "handlers/b");
    ACCEPT(set("handlers", text("one,two")));
    assert_int_equal(config.handlers.count, 1);
    assert_string_equal(config.handlers.items[0], "one,two");
    REFUSE(set("handlers", list(NULL, 0)),
           "handlers must be a list of 1 to 100 texts, none of them empty, not a list of 0");
    assert_int_equal(set("handlers", list(hole, 2)), LEVERET_CONFIG);
    assert_int_equal(set("handlers", text("")), LEVERET_CONFIG);
    assert_int_equal(set("handlers", boolean(false)), LEVERET_CONFIG);
    assert_string_equal(config.handlers.items[0], "one,two");
}

static void bind(void **state) {
    (void)state;
    static const char *const two[] = {"a.*", "b.#"};
    assert_false(options.bind_none);
    assert_int_equal(options.bind.count, 0);
    ACCEPT(set_option("bind", list(two, 2)));
    assert_int_equal(options.bind.count, 2);
    assert_false(options.bind_none);
    ACCEPT(set_option("bind", boolean(false)));
    assert_int_equal(options.bind.count, 0);
    assert_true(options.bind_none);
    REFUSE(set_option("bind", boolean(true)),
           "bind must be a list of 1 to 100 texts, none of them empty, or false, not true");
    assert_true(options.bind_none);
    ACCEPT(set_option("bind", text("a.b")));
    assert_string_equal(options.bind.items[0], "a.b");
    assert_false(options.bind_none);
    assert_int_equal(set_option("bind", list(two, 0)), LEVERET_CONFIG);
}

/* ---- unknown keys ---- */

static void unknown_keys_propose_one(void **state) {
    (void)state;
    static const struct {
        const char *wrong, *right;
    } cases[] = {
        {"rabbitmq.prefech", "rabbitmq.prefetch"},
        {"rabitmq.url", "rabbitmq.url"},
        {"prefetch", "rabbitmq.prefetch"},
        {"retention", "ledger.retention"},
        {"retry.maximum", NULL},
        {"retry.mx", "retry.max"},
        {"retry.base", "retry.base_ms"},
        {"log.levle", "log.level"},
        {"timeout", "timeout_ms"},
        {"Name", "name"},
        {"handler", "handlers"},
        {"dead_letters.queue", "dead_letter.queue"},
        {"postgresql.url", "postgres.url"},
        {"consumer_timeout", "rabbitmq.consumer_timeout"},
        {"rabbitmq.prefetch.x", "rabbitmq.prefetch"},
        {"completely_different", NULL},
        {"", NULL},
        {"lane", "lanes"},
        {"rabitmq", "rabbitmq"},
        {"ledgr", "ledger"},
        {"dead_leter", "dead_letter"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char expected[200];
        assert_int_equal(set(cases[i].wrong, number(1)), LEVERET_CONFIG);
        if (cases[i].right) {
            snprintf(expected, sizeof expected, "unknown key \"%s\"; did you mean \"%s\"?",
                     cases[i].wrong, cases[i].right);
            assert_string_equal(err.text, expected);
        }
        assert_non_null(strstr(err.text, "unknown key \""));
    }
    REFUSE(set("completely_different", number(1)),
           "unknown key \"completely_different\"; the README and `leveret run --help-config` list "
           "the known ones");
    char longer[5000];
    memset(longer, 'k', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(set(longer, number(1)), LEVERET_CONFIG);
    assert_int_equal(set_option("concurency", number(1)), LEVERET_CONFIG);
    assert_string_equal(err.text, "unknown key \"concurency\"; did you mean \"concurrency\"?");
}

static void tables_are_known(void **state) {
    (void)state;
    assert_true(lvt_keys_is_table(lvt_config_keys, lvt_config_key_count, "rabbitmq"));
    assert_true(lvt_keys_is_table(lvt_handler_keys, lvt_handler_key_count, "retry"));
    assert_false(lvt_keys_is_table(lvt_config_keys, lvt_config_key_count, "rabbit"));
    assert_false(lvt_keys_is_table(lvt_config_keys, lvt_config_key_count, "name"));
    assert_false(lvt_keys_is_table(lvt_config_keys, lvt_config_key_count, "rabbitmq.url"));
    assert_false(lvt_keys_is_table(lvt_config_keys, lvt_config_key_count, ""));
    REFUSE(set("retry", number(3)), "retry must be a table");
}

/* ---- variables ---- */

static enum leveret_code environment(char *a, char *b) {
    char *variables[] = {"PATH=/bin", "NOEQUALS", a, b, NULL};
    return lvt_config_environment(&config, variables, &err);
}

static void variables_win(void **state) {
    (void)state;
    ACCEPT(environment("RABBITMQ_URL=amqp://u:p@h/", "DATABASE_URL=host=x dbname=y"));
    assert_string_equal(config.rabbitmq.url, "amqp://u:p@h/");
    assert_string_equal(config.postgres.url, "host=x dbname=y");
    ACCEPT(environment("REDIS_URL=redis://h:1/2", "LEVERET_RABBITMQ_PREFETCH=321"));
    assert_string_equal(config.redis.url, "redis://h:1/2");
    assert_int_equal(config.rabbitmq.prefetch, 321);
    ACCEPT(environment("REDIS_URL=", "RABBITMQ_URL="));
    assert_string_equal(config.redis.url, "redis://h:1/2");
    ACCEPT(environment("LEVERET_HANDLERS=a, b ,c", "LEVERET_RETRY_BASE_MS=2s"));
    assert_int_equal(config.handlers.count, 3);
    assert_string_equal(config.handlers.items[1], "b");
    assert_int_equal(config.retry.base_ms, 2000);
    ACCEPT(environment("LEVERET_RETRY_FACTOR=1.5", "LEVERET_LOG_FORMAT=json"));
    assert_true(config.retry.factor == 1.5);
    assert_int_equal(config.log.format, 1);
    ACCEPT(environment("LEVERET_MAX_BODY_BYTES=1e3", "LEVERET_ADMIN_LISTEN="));
    assert_int_equal(config.max_body_bytes, 1000);
    assert_string_equal(config.admin.listen, "");
    ACCEPT(environment("LEVERET_RABBITMQ_CONSUMER_TIMEOUT=1h", "LEVERET_DEAD_LETTER_QUEUE=d"));
    assert_int_equal(config.rabbitmq.consumer_timeout_ms, 3600000);
    assert_string_equal(config.dead_letter.queue, "d");
}

static void wrong_variables_are_named(void **state) {
    (void)state;
    REFUSE(environment("LEVERET_RABBITMQ_PREFETCH=many", "A=1"),
           "the environment's LEVERET_RABBITMQ_PREFETCH: rabbitmq.prefetch must be a whole number "
           "from 1 to 65535, not \"many\"");
    static char *const bad[] = {
        "LEVERET_RETRY_MAX=",    "LEVERET_RETRY_MAX=0x3", "LEVERET_RETRY_MAX=nan",
        "LEVERET_RETRY_MAX=3 ",  "LEVERET_RETRY_MAX=1e",  "LEVERET_RETRY_MAX=-1",
        "LEVERET_HANDLERS=a,,b", "LEVERET_HANDLERS=",     "LEVERET_LOG_LEVEL=loud",
        "LEVERET_NAME="};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(environment(bad[i], "A=1"), LEVERET_CONFIG);
    }
    char many[1300] = "LEVERET_HANDLERS=h";
    for (int i = 0; i < 600; i++) {
        strcat(many, ",h");
    }
    assert_int_equal(environment(many, "A=1"), LEVERET_CONFIG);
    REFUSE(environment("LEVERET_RABITMQ_PREFETCH=1", "A=1"),
           "the environment's LEVERET_RABITMQ_PREFETCH: no key has this name; did you mean "
           "LEVERET_RABBITMQ_PREFETCH?");
    REFUSE(environment("LEVERET_SOMETHING_ELSE_ALTOGETHER=1", "A=1"),
           "the environment's LEVERET_SOMETHING_ELSE_ALTOGETHER: no key has this name; `leveret "
           "run --help-config` lists them");
    REFUSE(environment("LEVERET_RABBITMQ_URL=amqp://x:secret@y/", "A=1"),
           "the environment's LEVERET_RABBITMQ_URL: use RABBITMQ_URL instead");
    REFUSE(environment("LEVERET_POSTGRES_URL=x", "A=1"),
           "the environment's LEVERET_POSTGRES_URL: use DATABASE_URL instead");
    assert_int_equal(environment("LEVERET_rabbitmq_prefetch=1", "A=1"), LEVERET_CONFIG);
}

/* Kubernetes sets these in every pod beside a service called "leveret". */
static void service_links_are_no_keys(void **state) {
    (void)state;
    ACCEPT(environment("LEVERET_SERVICE_HOST=10.0.0.1", "LEVERET_PORT=tcp://10.0.0.1:9464"));
    ACCEPT(environment("LEVERET_SERVICE_PORT=9464", "LEVERET_SERVICE_PORT_METRICS=9464"));
    ACCEPT(environment("LEVERET_PORT_9464_TCP_ADDR=10.0.0.1", "LEVERET_ADMIN_SERVICE_HOST=1"));
    assert_int_equal(environment("LEVERET_SUPPORT=1", "A=1"), LEVERET_CONFIG);
}

/* ---- checks ---- */

static void times_are_checked_together(void **state) {
    (void)state;
    ACCEPT(set("timeout_ms", text("899999ms")));
    ACCEPT(lvt_config_check(&config, &err));
    ACCEPT(set("timeout_ms", text("15m")));
    REFUSE(lvt_config_check(&config, &err),
           "timeout_ms is 15m, but must be below half of rabbitmq.consumer_timeout, which is 30m: "
           "the broker takes back what is not acked by then");
    ACCEPT(set("timeout_ms", number(60000)));

    ACCEPT(set("retry.base_ms", number(30001)));
    REFUSE(lvt_config_check(&config, &err),
           "retry.base_ms is 30001ms, more than retry.cap_ms, which is 30s");
    ACCEPT(set("retry.base_ms", number(1000)));

    /* four runs of a minute, and waits of 1, 2 and 4 s */
    ACCEPT(set("ledger.retention", text("247s")));
    ACCEPT(lvt_config_check(&config, &err));
    ACCEPT(set("ledger.retention", text("246999ms")));
    REFUSE(lvt_config_check(&config, &err),
           "ledger.retention is 246999ms, but an event's retries may take 247s, and it must be "
           "remembered for longer: raise the retention, or lower retry.max, retry.cap_ms or "
           "timeout_ms");
    ACCEPT(set("retry.cap_ms", text("3s")));
    ACCEPT(lvt_config_check(&config, &err)); /* the last wait is 3 s now */
    ACCEPT(set("retry.max", number(1000)));
    ACCEPT(set("retry.factor", number(100)));
    assert_int_equal(lvt_config_check(&config, &err), LEVERET_CONFIG);
    ACCEPT(set("ledger.retention", text("7d")));
    ACCEPT(lvt_config_check(&config, &err));
}

static void addresses_are_checked(void **state) {
    (void)state;
    static const char *const good[] = {"", "127.0.0.1:9464", "localhost:0", "[::1]:65535", "*:80"};
    static const char *const bad[] = {"9464", ":9464",   "host:",    "host:x",
                                      "h:1x", "h:-1",    "h:65536",  "h:999999999999999999999",
                                      "h: 1", "host:+1", "127.0.0.1"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ACCEPT(set("admin.listen", text(good[i])));
        ACCEPT(lvt_config_check(&config, &err));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ACCEPT(set("admin.listen", text(bad[i])));
        assert_int_equal(lvt_config_check(&config, &err), LEVERET_CONFIG);
    }
}

/* ---- handlers ---- */

static void options_take_the_configuration(void **state) {
    (void)state;
    lvt_handler_options_free(&options);
    ACCEPT(set("rabbitmq.prefetch", number(33)));
    ACCEPT(set("rabbitmq.exchange", text("x")));
    ACCEPT(set("rabbitmq.queue_type", text("classic")));
    ACCEPT(set("dead_letter.queue", text("d")));
    ACCEPT(set("retry.max", number(9)));
    ACCEPT(set("timeout_ms", number(5)));
    ACCEPT(set("concurrency", number(6)));
    ACCEPT(set("memory_kb", number(777)));
    ACCEPT(set("budget_ms", number(77)));
    ACCEPT(lvt_handler_options_init(&options, &config, &err));
    assert_int_equal(options.prefetch, 33);
    assert_string_equal(options.exchange, "x");
    assert_string_equal(options.dead_letter, "d");
    assert_ptr_not_equal(options.exchange, config.rabbitmq.exchange);
    assert_int_equal(options.queue_type, LVT_CLASSIC);
    assert_int_equal(options.retry.max, 9);
    assert_int_equal(options.retry.base_ms, 1000);
    assert_int_equal(options.timeout_ms, 5);
    assert_int_equal(options.concurrency, 6);
    assert_int_equal(options.memory_kb, 777);
    assert_int_equal(options.budget_ms, 77);
    assert_null(options.queue);
    assert_null(options.id);
    assert_int_equal(options.events.count, 0);
    assert_int_equal(options.envelope, LVT_ENVELOPE_AUTO);
    assert_int_equal(options.message_ttl_ms, 0);
    assert_int_equal(options.max_priority, 0);
    assert_true(options.rate == 0);
}

static void options_are_set_and_checked(void **state) {
    (void)state;
    static const char *const events[] = {"a.*", "#"};
    ACCEPT(set_option("queue", text("item_events")));
    ACCEPT(set_option("events", list(events, 2)));
    ACCEPT(set_option("id", text("payload.id")));
    ACCEPT(set_option("rate", number(0.5)));
    ACCEPT(set_option("max_priority", number(255)));
    ACCEPT(set_option("message_ttl_ms", text("49d")));
    ACCEPT(set_option("retry.jitter", number(0.5)));
    assert_string_equal(options.queue, "item_events");
    assert_string_equal(options.events.items[1], "#");
    assert_string_equal(options.id, "payload.id");
    assert_true(options.rate == 0.5);
    assert_true(config.retry.jitter == 0);
    REFUSE(set_option("max_priority", number(256)),
           "max_priority must be a whole number from 0 to 255, not 256");
    assert_int_equal(set_option("message_ttl_ms", text("50d")), LEVERET_CONFIG);
    ACCEPT(lvt_handler_options_check(&options, &config, &err));
    ACCEPT(set_option("timeout_ms", text("20m")));
    assert_int_equal(lvt_handler_options_check(&options, &config, &err), LEVERET_CONFIG);
    assert_non_null(strstr(err.text, "timeout_ms is 20m"));
}

/* ---- the table for people ---- */

static void description_has_every_key_and_no_password(void **state) {
    (void)state;
    struct lvt_buffer out;
    lvt_buffer_init(&out, 1 << 20);
    lvt_keys_describe(lvt_config_keys, lvt_config_key_count, &out);
    assert_false(out.failed);
    for (size_t i = 0; i < lvt_config_key_count; i++) {
        char cell[100];
        snprintf(cell, sizeof cell, "\n| `%s` | ", lvt_config_keys[i].name);
        assert_non_null(strstr(out.data, cell));
    }
    assert_null(strstr(out.data, "guest:guest"));
    assert_non_null(
        strstr(out.data, "| `rabbitmq.url` | URL | `amqp://guest:***@localhost:5672/` |"));
    assert_non_null(
        strstr(out.data, "| `rabbitmq.prefetch` | integer | `200` | 1 to 65535 | no |"));
    assert_non_null(
        strstr(out.data, "| `ledger.retention` | duration | `7d` | 1m to 3650d | no |"));
    assert_non_null(strstr(out.data, "| `log.format` | choice | `text` | `text`, `json` | no |"));
    size_t lines = 0;
    for (char *line = strtok(out.data, "\n"); line; line = strtok(NULL, "\n")) {
        size_t cells = 0;
        for (const char *c = line; *c; c++) {
            cells += *c == '|';
        }
        assert_int_equal(cells, 7);
        lines++;
    }
    assert_int_equal(lines, lvt_config_key_count + 2);
    lvt_buffer_clear(&out);
    lvt_keys_describe(lvt_handler_keys, lvt_handler_key_count, &out);
    assert_non_null(strstr(out.data, "| `bind` | list or false | "));
    lvt_buffer_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_whole),
        cmocka_unit_test_setup_teardown(defaults, begin, end),
        cmocka_unit_test_setup_teardown(freeing_is_forgiving, begin, end),
        cmocka_unit_test_setup_teardown(texts, begin, end),
        cmocka_unit_test_setup_teardown(secrets_are_not_repeated, begin, end),
        cmocka_unit_test_setup_teardown(numbers, begin, end),
        cmocka_unit_test_setup_teardown(durations, begin, end),
        cmocka_unit_test_setup_teardown(choices, begin, end),
        cmocka_unit_test_setup_teardown(lists, begin, end),
        cmocka_unit_test_setup_teardown(bind, begin, end),
        cmocka_unit_test_setup_teardown(unknown_keys_propose_one, begin, end),
        cmocka_unit_test_setup_teardown(tables_are_known, begin, end),
        cmocka_unit_test_setup_teardown(variables_win, begin, end),
        cmocka_unit_test_setup_teardown(wrong_variables_are_named, begin, end),
        cmocka_unit_test_setup_teardown(service_links_are_no_keys, begin, end),
        cmocka_unit_test_setup_teardown(times_are_checked_together, begin, end),
        cmocka_unit_test_setup_teardown(addresses_are_checked, begin, end),
        cmocka_unit_test_setup_teardown(options_take_the_configuration, begin, end),
        cmocka_unit_test_setup_teardown(options_are_set_and_checked, begin, end),
        cmocka_unit_test_setup_teardown(description_has_every_key_and_no_password, begin, end),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
