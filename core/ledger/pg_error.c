#include "ledger/pg_connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/pg_address.h"

bool lvt_pg_failed(const PGresult *result) {
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_PIPELINE_SYNC:
    case PGRES_EMPTY_QUERY:
        return false;
    default:
        return true;
    }
}

const char *lvt_pg_sqlstate(const PGresult *result) {
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    return state ? state : "";
}

static bool begins(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

bool lvt_pg_is_outage(const char *sqlstate) {
    /* not 08P01, 53400, 58P01 or XX: a statement that is wrong fails with these each time */
    static const char *const classes[] = {"080", "531", "532", "533", "57P", "580", "25006"};
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        if (begins(sqlstate, classes[i]))
            return true;
    return false;
}

/* What only a person can mend: credentials, missing tables, missing rights. */
static bool needs_a_person(const char *sqlstate) {
    static const char *const states[] = {"26", "28", "3D000", "42", "3F000", "0LP01", "22023"};
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
        if (begins(sqlstate, states[i]))
            return true;
    return false;
}

static const char *next_step(const char *sqlstate) {
    if (begins(sqlstate, "42P01") || begins(sqlstate, "42703"))
        return "; run `leveret migrate` to create or upgrade the tables";
    if (begins(sqlstate, "28"))
        return "; correct the user or password in DATABASE_URL or postgres.url";
    if (begins(sqlstate, "3D000"))
        return "; create the database, or correct its name in DATABASE_URL or postgres.url";
    if (begins(sqlstate, "42501"))
        return "; grant this user the right, or use the user that ran `leveret migrate`";
    if (begins(sqlstate, "53200"))
        return "; lower ledger.max_claims, or raise the server's max_locks_per_transaction";
    if (begins(sqlstate, "53300"))
        return "; raise the server's max_connections, or lower postgres.pool";
    if (begins(sqlstate, "25006"))
        return "; the server only reads: is it a standby?";
    if (begins(sqlstate, "42P05") || begins(sqlstate, "26000"))
        return "; a pooler in between must pool by session (pool_mode = session)";
    return "";
}

void lvt_pg_explain_shared(struct leveret_error *ret_err) {
    leveret_fail(ret_err, LEVERET_CONFIG,
                 "a session is shared: the pooler in between must pool by session (pool_mode = "
                 "session), and clear what a client leaves (server_reset_query = DISCARD ALL)");
}

void lvt_pg_explain(const PGresult *result, struct leveret_error *ret_err) {
    const char *state = lvt_pg_sqlstate(result);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (!message)
        message = PQresultErrorMessage(result);
    if (!message[0])
        message = "PostgreSQL gave an answer that was not expected";
    leveret_fail(ret_err, needs_a_person(state) ? LEVERET_CONFIG : LEVERET_UNAVAILABLE,
                 "%.*s%s%s%s%s", (int)strcspn(message, "\n"), message,
                 state[0] ? " (SQLSTATE " : "", state, state[0] ? ")" : "", next_step(state));
}

/* With verbosity "verbose", as during the connect, a server's refusal reads "FATAL:  28P01: text"
 * in whatever language its severity is. */
static const char *find_sqlstate(const char *message, char ret_state[6]) {
    for (const char *at = message; (at = strstr(at, ":  ")); at += 3) {
        const char *state = at + 3;
        if (strspn(state, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && state[5] == ':' &&
            state[6] == ' ') {
            memcpy(ret_state, state, 5);
            ret_state[5] = '\0';
            return state + 7;
        }
    }
    return NULL;
}

/* What libpq itself finds wrong with the URL, or with the server's certificate. It has no code for
 * it, and its text may name other addresses of the host before, a line each. Its words are English
 * where nobody has set a locale. */
static const char *find_own_problem(const char *message, const char **ret_step) {
    static const struct {
        const char *words, *step;
    } problems[] = {
        {"invalid port number", "; correct DATABASE_URL or postgres.url"},
        {"invalid integer value", "; correct DATABASE_URL or postgres.url"},
        {"invalid sslmode value", "; correct DATABASE_URL or postgres.url"},
        {"certificate verify failed",
         "; has it expired, or did another authority sign it than those of sslrootcert in "
         "DATABASE_URL or postgres.url?"},
        {"does not match host name", "; use a name that it is for in DATABASE_URL or postgres.url"},
        {"host name must be specified for a verified SSL",
         "; give the host by name in DATABASE_URL or postgres.url"},
        {"root certificate file",
         "; name the file of the authority in sslrootcert of DATABASE_URL or postgres.url"},
        {"server does not support SSL",
         "; switch ssl on in PostgreSQL, or choose another sslmode in DATABASE_URL or "
         "postgres.url"},
    };
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++) {
        const char *at = strstr(message, problems[i].words);
        if (!at)
            continue;
        while (at > message && at[-1] != '\n')
            at--;
        *ret_step = problems[i].step;
        return at;
    }
    return NULL;
}

bool lvt_pg_is_starting(const PGconn *conn) {
    char state[6] = "";
    return conn && find_sqlstate(PQerrorMessage(conn), state) && strcmp(state, "57P03") == 0;
}

void lvt_pg_explain_connection(const PGconn *conn, struct leveret_error *ret_err) {
    char state[6] = "";
    const char *message = conn ? PQerrorMessage(conn) : "out of memory", *step;
    const char *refusal = find_sqlstate(message, state);
    const char *own = refusal ? NULL : find_own_problem(message, &step);
    if (own) {
        leveret_fail(ret_err, LEVERET_CONFIG, "%.*s%s", (int)strcspn(own, "\n"), own, step);
        return;
    }
    if (refusal)
        message = refusal;
    if (!message[0])
        message = "the connection was lost";
    bool person = needs_a_person(state) || (conn && PQconnectionNeedsPassword(conn));
    leveret_fail(ret_err, person ? LEVERET_CONFIG : LEVERET_UNAVAILABLE, "%.*s%s%s%s%s",
                 (int)strcspn(message, "\n"), message, state[0] ? " (SQLSTATE " : "", state,
                 state[0] ? ")" : "", person && !state[0] ? next_step("28") : next_step(state));
}

/* A list with commas; an empty entry is the default. libpq would look at them after the host's name
 * is resolved only. */
static bool are_ports(const char *list) {
    for (;;) {
        size_t len = strcspn(list, ","), digits = strspn(list, "0123456789");
        unsigned long port = strtoul(list, NULL, 10);
        if (digits != len || (len > 0 && (len > 5 || port < 1 || port > 65535)))
            return false;
        if (!list[len])
            return true;
        list += len + 1;
    }
}

enum leveret_code lvt_pg_check_url(const char *url, struct leveret_error *err) {
    char *ignored = NULL;
    PQconninfoOption *options = PQconninfoParse(url, &ignored);
    if (ignored)
        PQfreemem(ignored);
    if (!options)
        return leveret_fail(err, LEVERET_CONFIG,
                            "the PostgreSQL URL (DATABASE_URL or postgres.url) is not valid: it "
                            "reads postgresql://USER:PASSWORD@HOST:PORT/DATABASE, special "
                            "characters as %%XX");
    const char *ports = lvt_pg_option(options, "port");
    bool good = !ports || are_ports(ports);
    PQconninfoFree(options);
    if (!good)
        return leveret_fail(err, LEVERET_CONFIG,
                            "the PostgreSQL URL (DATABASE_URL or postgres.url) has a port that is "
                            "no number from 1 to 65535");
    return LEVERET_OK;
}
