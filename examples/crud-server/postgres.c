#include "postgres.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

struct postgres {
    const char *url, *setup;
    pthread_mutex_t mutex;
    pthread_cond_t freed;
    PGconn *idle[POSTGRES_CONNECTIONS]; /* NULL: one that has not been made yet */
    size_t idle_count;
    bool away; /* under the mutex: it has been said */
};

struct postgres *postgres_new(const char *url, const char *setup) {
    struct postgres *postgres = calloc(1, sizeof *postgres);
    if (!postgres)
        return NULL;
    postgres->url = url;
    postgres->setup = setup;
    postgres->idle_count = POSTGRES_CONNECTIONS;
    pthread_mutex_init(&postgres->mutex, NULL);
    pthread_cond_init(&postgres->freed, NULL);
    return postgres;
}

void postgres_free(struct postgres *postgres) {
    for (size_t i = 0; i < postgres->idle_count; i++)
        PQfinish(postgres->idle[i]);
    pthread_mutex_destroy(&postgres->mutex);
    pthread_cond_destroy(&postgres->freed);
    free(postgres);
}

/* ---- one connection ---- */

static PGconn *take(struct postgres *postgres) {
    pthread_mutex_lock(&postgres->mutex);
    while (postgres->idle_count == 0)
        pthread_cond_wait(&postgres->freed, &postgres->mutex);
    PGconn *connection = postgres->idle[--postgres->idle_count];
    pthread_mutex_unlock(&postgres->mutex);
    return connection;
}

static void give_back(struct postgres *postgres, PGconn *connection) {
    pthread_mutex_lock(&postgres->mutex);
    postgres->idle[postgres->idle_count++] = connection;
    pthread_cond_signal(&postgres->freed);
    pthread_mutex_unlock(&postgres->mutex);
}

/* Says it once, when PostgreSQL goes and when it comes. */
static void note(struct postgres *postgres, const char *problem) {
    pthread_mutex_lock(&postgres->mutex);
    bool news = postgres->away != (problem != NULL);
    postgres->away = problem != NULL;
    pthread_mutex_unlock(&postgres->mutex);
    if (news && problem)
        say("PostgreSQL cannot be used: %.*s", (int)strcspn(problem, "\n"), problem);
    else if (news)
        say("PostgreSQL is back");
}

/* The address may say otherwise: what comes later wins. */
static PGconn *dial(const char *url) {
    static const char *const names[] = {"connect_timeout", "tcp_user_timeout", "application_name",
                                        "dbname", NULL};
    const char *const values[] = {"3", "5000", "crud-server", url, NULL};
    return PQconnectdbParams(names, values, 1);
}

static PGconn *connect_new(struct postgres *postgres) {
    PGconn *connection = dial(postgres->url);
    if (PQstatus(connection) == CONNECTION_OK) {
        PGresult *result = PQexec(connection, postgres->setup);
        ExecStatusType status = PQresultStatus(result);
        PQclear(result);
        if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
            return connection;
    }
    note(postgres, PQerrorMessage(connection));
    PQfinish(connection);
    return NULL;
}

/* To be known before a statement goes out: one that has gone out might have been executed. On a
 * connection that nobody uses the server has nothing to say but that it is going. */
static bool is_alive(const PGconn *connection) {
    struct pollfd socket = {.fd = PQsocket(connection), .events = POLLIN};
    return PQstatus(connection) == CONNECTION_OK && poll(&socket, 1, 0) == 0;
}

PGresult *postgres_run(struct postgres *postgres, const char *sql, const char *const parameters[],
                       int count) {
    PGresult *result = NULL;
    PGconn *connection = take(postgres);
    if (!is_alive(connection)) {
        PQfinish(connection);
        connection = connect_new(postgres);
    }
    if (connection) {
        result = PQexecParams(connection, sql, count, NULL, parameters, NULL, NULL, 0);
        if (PQresultStatus(result) == PGRES_TUPLES_OK) {
            note(postgres, NULL);
        } else {
            note(postgres, PQerrorMessage(connection));
            PQclear(result);
            result = NULL;
        }
    }
    give_back(postgres, connection);
    return result;
}
