/* The comparison of handlers' files with the handlers that run. */
#include "engine_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/folder.h"
#include "runtime/load.h"
#include "runtime/reload.h"

struct fixture {
    char folder[64];
    struct lvt_config config;
    struct world *world;
    struct lvt_reload *reload;
};

static void path_of(const struct fixture *f, const char *name, char path[160]) {
    snprintf(path, 160, "%s/%s", f->folder, name);
}

static void save(const struct fixture *f, const char *name, const char *text) {
    char path[160];
    path_of(f, name, path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    const struct timespec long_ago[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
}

static void take_away(const struct fixture *f, const char *name) {
    char path[160];
    path_of(f, name, path);
    unlink(path);
}

static int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    struct leveret_error err;
    *state = f;
    strcpy(f->folder, "/tmp/leveret-reload-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    save(f, "a.lua", "return function() end");
    save(f, "b.lua", "return function() end -- b");
    assert_int_equal(lvt_config_init(&f->config, &err), LEVERET_OK);
    const struct lvt_value folder = {.kind = LVT_VALUE_TEXT, .text = f->folder};
    assert_int_equal(
        lvt_keys_set(lvt_config_keys, lvt_config_key_count, &f->config, "handlers", &folder, &err),
        LEVERET_OK);
    f->world = world_new();
    assert_int_equal(lvt_handlers_load(&f->config, &f->world->log, &f->world->routes, &err),
                     LEVERET_OK);
    world_open(f->world);
    const struct lvt_reload_options options = {&f->config, f->world->engine, &f->world->routes,
                                               f->world->stats, &f->world->log};
    f->reload = lvt_reload_new(&options);
    assert_non_null(f->reload);
    return 0;
}

static int tear_down(void **state) {
    static const char *const names[] = {"a.lua", "b.lua", "c.lua", "a.lua~", ".a.lua.swp", "4913"};
    struct fixture *f = *state;
    lvt_reload_free(f->reload);
    world_free(f->world);
    lvt_config_free(&f->config);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        take_away(f, names[i]);
    rmdir(f->folder);
    free(f);
    return 0;
}

static uint64_t scan_at(struct fixture *f, uint64_t now_ms) {
    f->world->last_log[0] = '\0';
    uint64_t again_ms = lvt_reload_scan(f->reload, now_ms, false);
    go(f->world);
    return again_ms;
}

static const struct lvt_handler *handler_named(const struct fixture *f, const char *name) {
    for (size_t i = 0; i < f->world->routes.handler_count; i++)
        if (strcmp(f->world->routes.handlers[i]->name, name) == 0)
            return f->world->routes.handlers[i];
    return NULL;
}

static uint64_t counted_reloads(const struct fixture *f, const char *name,
                                enum lvt_reload_result result) {
    for (const struct lvt_reload_stats *at = f->world->stats->reloads; at; at = at->next)
        if (strcmp(at->handler, name) == 0)
            return at->results[result];
    return 0;
}

#define SAID(f, text) assert_non_null(strstr((f)->world->last_log, text))
#define SILENT(f) assert_string_equal((f)->world->last_log, "")

static void what_is_no_handler_is_passed_over(void **state) {
    struct fixture *f = *state;
    assert_true(lvt_handler_is_file("ticket.created.lua"));
    static const char *const no[] = {".a.lua.swp", "a.lua~", "4913", ".lua", "a.lua.tmp", "a"};
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
        assert_false(lvt_handler_is_file(no[i]));
    save(f, "a.lua~", "nothing");
    save(f, ".a.lua.swp", "nothing");
    save(f, "4913", "nothing");
    assert_int_equal(scan_at(f, 1), 0);
    SILENT(f);
    assert_int_equal(f->world->routes.handler_count, 2);
}

static void content_is_what_counts(void **state) {
    struct fixture *f = *state;
    const struct lvt_handler *before = handler_named(f, "a");
    char version[13];
    memcpy(version, before->version, sizeof version);
    save(f, "a.lua", "return function() end"); /* again */
    scan_at(f, 1);
    SILENT(f);
    assert_ptr_equal(handler_named(f, "a"), before);
    save(f, "a.lua", "return function() end -- changed");
    scan_at(f, 2);
    SAID(f, "handler reloaded");
    assert_string_not_equal(handler_named(f, "a")->version, version);
    assert_int_equal(counted_reloads(f, "a", LVT_RELOAD_OK), 1);
    assert_int_equal(counted_reloads(f, "b", LVT_RELOAD_OK), 0);
}

static void wrong_content_is_told_once(void **state) {
    struct fixture *f = *state;
    const struct lvt_handler *before = handler_named(f, "a");
    save(f, "a.lua", "return {");
    scan_at(f, 1);
    SAID(f, "cannot be used");
    scan_at(f, 2);
    SILENT(f);
    assert_ptr_equal(handler_named(f, "a"), before);
    save(f, "a.lua", "return { timeout_ms = '1d', handle = function() end }");
    scan_at(f, 3); /* over half of the broker's consumer_timeout */
    SAID(f, "cannot be used");
    save(f, "a.lua", "return {");
    scan_at(f, 4);
    SAID(f, "cannot be used");
    assert_int_equal(counted_reloads(f, "a", LVT_RELOAD_FAILED), 3);
    save(f, "a.lua", "return function() end"); /* as it was: nothing to load */
    scan_at(f, 5);
    SILENT(f);
    assert_ptr_equal(handler_named(f, "a"), before);
}

/* Opening it would wait for somebody to write. */
static void named_pipe_is_no_handler(void **state) {
    struct fixture *f = *state;
    char path[160];
    path_of(f, "c.lua", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    scan_at(f, 5000);
    scan_at(f, 6000);
    assert_null(handler_named(f, "c"));
    assert_int_equal(f->world->routes.handler_count, 2);
    struct lvt_handler *handler;
    struct leveret_error err;
    assert_int_equal(lvt_handler_load(path, &f->config, &f->world->log, &handler, &err),
                     LEVERET_CONFIG);
    assert_non_null(strstr(err.text, "not a file"));
}

/* It may be half-written. */
static void fresh_content_is_given_a_moment(void **state) {
    struct fixture *f = *state;
    char path[160];
    path_of(f, "a.lua", path);
    save(f, "a.lua", "return {");
    assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0);
    assert_int_equal(scan_at(f, 1000), 1100);
    SILENT(f);
    save(f, "a.lua", "return {");
    assert_int_equal(scan_at(f, 1100), 0);
    SAID(f, "cannot be used");
}

static void removal_takes_a_second(void **state) {
    struct fixture *f = *state;
    take_away(f, "b.lua");
    assert_int_equal(scan_at(f, 5000), 6000);
    assert_int_equal(scan_at(f, 5999), 6000);
    SILENT(f);
    save(f, "b.lua", "return function() end -- b");
    assert_int_equal(scan_at(f, 6000), 0);
    take_away(f, "b.lua");
    assert_int_equal(scan_at(f, 7000), 8000); /* it counts anew */
    assert_int_equal(scan_at(f, 8000), 0);
    SAID(f, "handler removed");
    assert_null(handler_named(f, "b"));
    assert_int_equal(counted_reloads(f, "b", LVT_RELOAD_REMOVED), 1);
    take_away(f, "a.lua");
    assert_int_equal(lvt_reload_scan(f->reload, 9000, true), 0);
    assert_int_equal(f->world->routes.handler_count, 0);
    save(f, "c.lua", "return function() end");
    scan_at(f, 9001);
    SAID(f, "handler added");
    assert_non_null(handler_named(f, "c"));
    assert_int_equal(f->world->routes.queue_count, 3); /* those without a handler stay */
}

static void renamed_file_takes_the_place(void **state) {
    struct fixture *f = *state;
    char from[160], to[160];
    path_of(f, "b.lua", from);
    path_of(f, "c.lua", to);
    assert_int_equal(rename(from, to), 0);
    scan_at(f, 1);
    SAID(f, "handler reloaded");
    assert_null(handler_named(f, "b"));
    assert_string_equal(handler_named(f, "c")->queue->name, "c.queue");
    assert_int_equal(f->world->routes.handler_count, 2);
}

static void folder_that_is_away_keeps_its_handlers(void **state) {
    struct fixture *f = *state;
    char elsewhere[80];
    snprintf(elsewhere, sizeof elsewhere, "%s.away", f->folder);
    assert_int_equal(rename(f->folder, elsewhere), 0);
    assert_int_equal(scan_at(f, 1), 0);
    SAID(f, "cannot be read");
    assert_int_equal(lvt_reload_scan(f->reload, 100000, true), 0);
    assert_int_equal(f->world->routes.handler_count, 2);
    assert_int_equal(rename(elsewhere, f->folder), 0);
    scan_at(f, 100001);
    SAID(f, "is back");
}

/* One that cannot be does not keep the others from changing. */
static void one_conflict_spoils_nothing_else(void **state) {
    struct fixture *f = *state;
    save(f, "b.lua", "return { queue = 'a.queue', events = {'a'}, handle = function() end }");
    save(f, "c.lua", "return function() end -- c");
    scan_at(f, 1);
    assert_int_equal(counted_reloads(f, "b", LVT_RELOAD_FAILED), 1);
    assert_int_equal(counted_reloads(f, "c", LVT_RELOAD_ADDED), 1);
    assert_string_equal(handler_named(f, "b")->queue->name, "b.queue");
    scan_at(f, 2);
    SILENT(f);
    save(f, "a.lua", "return { events = {'other'}, handle = function() end }");
    scan_at(f, 3); /* the conflict is over */
    assert_string_equal(handler_named(f, "b")->queue->name, "a.queue");
    assert_int_equal(counted_reloads(f, "a", LVT_RELOAD_OK), 1);
    assert_int_equal(counted_reloads(f, "b", LVT_RELOAD_OK), 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_no_handler_is_passed_over), TEST(content_is_what_counts),
        TEST(wrong_content_is_told_once),        TEST(named_pipe_is_no_handler),
        TEST(fresh_content_is_given_a_moment),   TEST(removal_takes_a_second),
        TEST(renamed_file_takes_the_place),      TEST(folder_that_is_away_keeps_its_handlers),
        TEST(one_conflict_spoils_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
