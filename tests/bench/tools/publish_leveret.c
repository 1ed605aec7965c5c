/* What bench_publish does at full speed, through libleveret's publisher: the same bodies and
 * properties, persistent, mandatory and confirmed, an id made for each.
 *
 * usage: publish_leveret URL QUEUE COUNT BODY-BYTES [THREADS] */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "leveret/leveret.h"

#define THREADS_MAX 16

static atomic_uint_fast64_t confirmed, failed;

struct part {
    pthread_t thread;
    struct leveret_publisher *publisher;
    const char *queue;
    uint64_t count;
    size_t body_bytes;
};

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void check(enum leveret_code code, const struct leveret_error *err) {
    if (code == LEVERET_OK)
        return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static void published(void *ctx, int32_t code, struct leveret_text id, const char *why) {
    (void)ctx, (void)id;
    atomic_fetch_add(code == LEVERET_OK ? &confirmed : &failed, 1);
    if (code != LEVERET_OK)
        fprintf(stderr, "%s\n", why);
}

static void *publish_part(void *arg) {
    const struct part *part = arg;
    struct leveret_error err;
    char *body = malloc(part->body_bytes + 200);
    if (!body)
        exit(1);
    for (uint64_t i = 0; i < part->count; i++) {
        int len = snprintf(body, 200,
                           "{\"id\":\"%" PRIu64
                           "\",\"title\":\"Printer on fire\",\"ownerId\":"
                           "\"owner-7\",\"description\":\"",
                           i);
        size_t at = (size_t)len;
        while (at + 40 < part->body_bytes)
            body[at++] = 'x';
        memcpy(body + at, "\"}", 2);
        struct leveret_outgoing outgoing = leveret_outgoing(leveret_text_of("ticket.created"),
                                                            (struct leveret_text){body, at + 2});
        outgoing.queue = leveret_text_of(part->queue);
        check(leveret_publisher_publish(part->publisher, &outgoing, 60000, published, NULL, &err),
              &err);
    }
    free(body);
    return NULL;
}

int main(int argc, char **argv) {
    struct leveret_config *config;
    struct leveret_publisher *publisher;
    struct leveret_error err;
    struct part parts[THREADS_MAX];
    if (argc < 5) {
        fprintf(stderr, "usage: %s URL QUEUE COUNT BODY-BYTES [THREADS]\n", argv[0]);
        return 64;
    }
    uint64_t count = strtoull(argv[3], NULL, 10);
    uint64_t threads = argc > 5 ? strtoull(argv[5], NULL, 10) : 1;
    if (threads < 1 || threads > THREADS_MAX)
        return 64;
    check(leveret_config_new(&config, &err), &err);
    check(leveret_config_set(config, "rabbitmq.url", argv[1], &err), &err);
    check(leveret_publisher_new(config, NULL, NULL, &publisher, &err), &err);
    leveret_config_free(config);
    while (!leveret_publisher_ready(publisher))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);

    double start_s = now_s();
    for (uint64_t i = 0; i < threads; i++) {
        parts[i] = (struct part){.publisher = publisher,
                                 .queue = argv[2],
                                 .count = count / threads,
                                 .body_bytes = strtoull(argv[4], NULL, 10)};
        if (pthread_create(&parts[i].thread, NULL, publish_part, &parts[i]) != 0)
            return 1;
    }
    for (uint64_t i = 0; i < threads; i++)
        pthread_join(parts[i].thread, NULL);
    leveret_publisher_drain(publisher, LEVERET_FOREVER);
    printf("%.6f\n", now_s() - start_s);
    leveret_publisher_free(publisher);
    return failed > 0 || confirmed != count / threads * threads;
}
