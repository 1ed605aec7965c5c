#include "backup/databases.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

bool lvt_database_name_check(const char *name, struct lvt_failure *failure) {
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";
    size_t len = strlen(name);
    if (len == 0 || len > LVT_DATABASE_NAME_MAX)
        return lvt_failed(failure, LEVERET_REJECT, "the database's name has %zu bytes, not 1 to %d",
                          len, LVT_DATABASE_NAME_MAX);
    if (strspn(name, allowed) != len || name[0] == '-' || name[0] == '.')
        return lvt_failed(failure, LEVERET_REJECT,
                          "the database's name has other characters than A-Z a-z 0-9 _ - .");
    return true;
}

/* ---- the environment ---- */

static bool append(char **environment, size_t *count, const char *name, const char *value) {
    if (value && asprintf(&environment[*count], "%s=%s", name, value) < 0) {
        environment[*count] = NULL;
        return false;
    }
    *count += value != NULL;
    return true;
}

/* PATH, HOME, LC_ALL, the name and the timeout that the address may lack, and a NULL. */
#define OTHERS 6

static bool fill(struct lvt_database *database, const PQconninfoOption *options,
                 struct lvt_failure *failure) {
    size_t options_count = 0, count = 0;
    bool has_name = false, has_timeout = false;
    while (options[options_count].keyword)
        options_count++;
    char **environment = calloc(options_count + OTHERS, sizeof *environment);
    database->environment = environment;
    if (!environment)
        return lvt_failed_memory(failure);
    bool fits = append(environment, &count, "PATH", getenv("PATH")) &&
                append(environment, &count, "HOME", getenv("HOME")) &&
                append(environment, &count, "LC_ALL", "C");
    for (const PQconninfoOption *option = options; option->keyword; option++) {
        if (!option->val)
            continue;
        if (!option->envvar)
            return lvt_failed(failure, LEVERET_REJECT,
                              "databases.%s: %s cannot be handed on to pg_dump: leave it out",
                              database->name, option->keyword);
        fits = fits && append(environment, &count, option->envvar, option->val);
        has_name = has_name || strcmp(option->keyword, "dbname") == 0;
        has_timeout = has_timeout || strcmp(option->keyword, "connect_timeout") == 0;
    }
    fits = fits && (has_name || append(environment, &count, "PGDATABASE", database->name)) &&
           (has_timeout || append(environment, &count, "PGCONNECT_TIMEOUT", "15"));
    return fits || lvt_failed_memory(failure);
}

static bool read_address(struct lvt_database *database, const char *address,
                         struct lvt_failure *failure) {
    PQconninfoOption *options = PQconninfoParse(address, NULL);
    if (!options) /* libpq's own text may quote a password */
        return lvt_failed(failure, LEVERET_REJECT,
                          "databases.%s is no address such as postgresql://host/database",
                          database->name);
    bool done = fill(database, options, failure);
    PQconninfoFree(options);
    return done;
}

/* ---- the table ---- */

bool lvt_databases_read(struct lvt_databases *databases, const struct leveret_host *host,
                        struct leveret_text table, struct lvt_failure *failure) {
    char name[LVT_DATABASE_NAME_MAX + 2];
    struct leveret_text value;
    for (size_t i = 0; host->json_member(table, "", i, name, sizeof name, &value) >= 0; i++) {
        char *address;
        if (databases->count == LVT_DATABASES_MAX)
            return lvt_failed(failure, LEVERET_REJECT, "databases has more than %d members",
                              LVT_DATABASES_MAX);
        if (!lvt_database_name_check(name, failure) ||
            !lvt_json_text(host, value, "", "an address in databases", NULL, &address, failure))
            return false;
        struct lvt_database *database = &databases->items[databases->count++];
        database->name = strdup(name);
        bool done =
            database->name ? read_address(database, address, failure) : lvt_failed_memory(failure);
        free(address);
        if (!done)
            return false;
    }
    return true;
}

void lvt_databases_free(struct lvt_databases *databases) {
    for (size_t i = 0; i < databases->count; i++) {
        struct lvt_database *database = &databases->items[i];
        for (char **item = database->environment; item && *item; item++)
            free(*item);
        free(database->environment);
        free(database->name);
    }
    databases->count = 0;
}

const struct lvt_database *lvt_databases_find(const struct lvt_databases *databases,
                                              const char *name) {
    for (size_t i = 0; i < databases->count; i++)
        if (strcmp(databases->items[i].name, name) == 0)
            return &databases->items[i];
    return NULL;
}
