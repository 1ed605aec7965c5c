/* A REST server for items that publishes what happens to them: crud-server [--listen HOST:PORT].
 *
 * DATABASE_URL   where the items are; the events go through leveret's outbox, in the transaction of
 *                the change. Without it the items are in memory, and the events go straight to
 * RABBITMQ_URL   amqp://guest:guest@localhost:5672/ by default
 *
 * SIGTERM or SIGINT ends it once the requests under way are answered; a second one ends it at once.
 */
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "say.h"
#include "server.h"

#define STOP_WAIT_MS 10000

static const char usage[] = "usage: crud-server [--listen HOST:PORT]\n";

static const char *variable(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

/* The address to listen on; NULL when the program is to end with *ret_code. */
static const char *read_options(int argc, char **argv, int *ret_code) {
    static const struct option options[] = {
        {"listen", required_argument, NULL, 'l'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char *listen = "127.0.0.1:8080";
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'l') {
            listen = optarg;
            continue;
        }
        fputs(usage, option == 'h' ? stdout : stderr);
        *ret_code = option == 'h' ? EX_OK : EX_USAGE;
        return NULL;
    }
    if (optind < argc) {
        fputs(usage, stderr);
        *ret_code = EX_USAGE;
        return NULL;
    }
    return listen;
}

static int fail(int code, const char *problem) {
    fprintf(stderr, "crud-server: %s\n", problem);
    return code;
}

static int serve(const char *listen, const struct store *store, struct events *events,
                 const sigset_t *signals) {
    char problem[200];
    int received;
    struct server *server = server_start(listen, store, events, problem);
    if (!server)
        return fail(EX_UNAVAILABLE, problem);
    say("listening on %s; items are %s", server_url(server),
        events ? "in memory, events go straight to RabbitMQ"
               : "in PostgreSQL, events go through its outbox");
    sigwait(signals, &received);
    say("stopping");
    pthread_sigmask(SIG_UNBLOCK, signals, NULL);
    server_stop(server, STOP_WAIT_MS);
    return EX_OK;
}

static int run(const char *listen, const char *database) {
    char problem[EVENTS_PROBLEM_SIZE] = "out of memory";
    struct events *events = NULL;
    struct store store;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* in the threads to come, too */
    if (database && !store_in_postgres(database, &store))
        return fail(EX_CONFIG, "DATABASE_URL is not an address of PostgreSQL");
    if (!database) {
        const char *url = variable("RABBITMQ_URL", "amqp://guest:guest@localhost:5672/");
        events = events_start(url, problem);
        if (!events || !store_in_memory(events, &store)) {
            events_stop(events, 0);
            return fail(EX_CONFIG, problem);
        }
    }
    int code = serve(listen, &store, events, &signals);
    store.close(store.self);
    events_stop(events, STOP_WAIT_MS);
    return code;
}

int main(int argc, char **argv) {
    int code = EX_OK;
    const char *listen = read_options(argc, argv, &code);
    return listen ? run(listen, variable("DATABASE_URL", NULL)) : code;
}
