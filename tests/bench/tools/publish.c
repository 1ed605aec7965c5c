/* Publishes ticket.created events to a queue: persistent, confirmed, with a random message id each
 * (ids in sequence flatter an index). At full speed it keeps a window of unconfirmed ones; with a
 * rate it sends on a schedule, late ones at once, and each body holds the moment of its sending.
 *
 * usage: publish URL QUEUE COUNT BODY-BYTES [--rate PER-SECOND] [--ids v4|v7] [--seed N] */
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "amqp.h"

#define WINDOW 2000
#define ID_CHARS 36

static uint64_t state;

/* splitmix64 */
static uint64_t random_bits(void) {
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int64_t wall_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void write_id(char *id, int version) {
    uint64_t high = random_bits(), low = random_bits();
    if (version == 7)
        high = (uint64_t)(wall_us() / 1000) << 16 | (high & 0xffff);
    high = (high & ~(uint64_t)0xf000) | (uint64_t)version << 12;
    low = (low & 0x3fffffffffffffffu) | 0x8000000000000000u;
    snprintf(id, ID_CHARS + 1,
             "%08" PRIx64 "-%04" PRIx64 "-%04" PRIx64 "-%04" PRIx64 "-%012" PRIx64, high >> 32,
             high >> 16 & 0xffff, high & 0xffff, low >> 48, low & 0xffffffffffff);
}

#define SMALL_BYTES 240

/* A small body has no room for when it was sent, and says less. */
static int begin_body(char *body, size_t size, const char *id, int64_t sent_us) {
    if (size < SMALL_BYTES)
        return snprintf(body, SMALL_BYTES,
                        "{\"event\":\"ticket.created\",\"payload\":{\"id\":\"%.8s\","
                        "\"title\":\"Fire\",\"ownerId\":\"o\",\"d\":\"",
                        id);
    return snprintf(body, size,
                    "{\"event\":\"ticket.created\",\"payload\":{\"id\":\"%s\",\"title\":\"Printer "
                    "on fire\",\"ownerId\":\"owner-%" PRIu64 "\",\"sentAt\":%" PRId64
                    ",\"description\":\"",
                    id, random_bits() % 10000, sent_us);
}

static size_t write_body(char *body, size_t size, const char *id, int64_t sent_us) {
    int len = begin_body(body, size, id, sent_us);
    size_t at = (size_t)len;
    while (at + 4 < size)
        body[at++] = 'x';
    memcpy(body + at, "\"}}", 3);
    return at + 3;
}

/* Which messages are confirmed; a quorum queue confirms in any order. */
struct confirms {
    unsigned char *done; /* by delivery tag */
    uint64_t low, count; /* all up to low are done */
};

static void confirm(struct confirms *confirms, uint64_t tag, bool multiple) {
    for (uint64_t at = multiple ? confirms->low + 1 : tag; at <= tag; at++) {
        confirms->count += !confirms->done[at];
        confirms->done[at] = 1;
    }
    while (confirms->done[confirms->low + 1])
        confirms->low++;
}

/* Takes confirms until at most `most` are missing. */
static void await_confirms(amqp_connection_state_t connection, uint64_t published,
                           struct confirms *confirms, uint64_t most) {
    while (published - confirms->count > most) {
        amqp_frame_t frame;
        amqp_maybe_release_buffers(connection);
        bench_check(amqp_simple_wait_frame(connection, &frame), "a confirm");
        if (frame.frame_type != AMQP_FRAME_METHOD)
            continue;
        if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD) {
            fprintf(stderr, "the broker answered %s instead of a confirm\n",
                    amqp_method_name(frame.payload.method.id));
            exit(1);
        }
        const amqp_basic_ack_t *ack = frame.payload.method.decoded;
        confirm(confirms, ack->delivery_tag, ack->multiple);
    }
}

static void sleep_until(double at_s) {
    double wait_s = at_s - bench_now_s();
    if (wait_s > 0)
        usleep((useconds_t)(wait_s * 1e6));
}

struct plan {
    const char *queue;
    uint64_t count;
    size_t body_bytes;
    double rate;
    int id_version;
};

static void publish_all(amqp_connection_state_t connection, const struct plan *plan) {
    char id[ID_CHARS + 1];
    char *body = malloc(plan->body_bytes + 400);
    struct confirms confirms = {.done = calloc(plan->count + 2, 1)};
    double start_s = bench_now_s();
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG |
                                                    AMQP_BASIC_MESSAGE_ID_FLAG |
                                                    AMQP_BASIC_CONTENT_TYPE_FLAG,
                                          .delivery_mode = 2,
                                          .content_type = amqp_cstring_bytes("application/json")};
    if (!body || !confirms.done)
        exit(1);
    for (uint64_t i = 1; i <= plan->count; i++) {
        if (plan->rate > 0)
            sleep_until(start_s + (double)i / plan->rate);
        write_id(id, plan->id_version);
        size_t len = write_body(body, plan->body_bytes, id, wall_us());
        properties.message_id = amqp_cstring_bytes(id);
        bench_check(amqp_basic_publish(connection, 1, amqp_empty_bytes,
                                       amqp_cstring_bytes(plan->queue), 0, 0, &properties,
                                       (amqp_bytes_t){len, body}),
                    "publishing");
        await_confirms(connection, i, &confirms, WINDOW);
    }
    await_confirms(connection, plan->count, &confirms, 0);
    printf("%.6f\n", bench_now_s() - start_s);
    free(confirms.done);
    free(body);
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"rate", required_argument, NULL, 'r'},
                                            {"ids", required_argument, NULL, 'i'},
                                            {"seed", required_argument, NULL, 's'},
                                            {NULL, 0, NULL, 0}};
    struct plan plan = {.id_version = 4};
    int option;
    state = (uint64_t)wall_us() * 1000003 + (uint64_t)getpid();
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'r')
            plan.rate = strtod(optarg, NULL);
        else if (option == 'i')
            plan.id_version = strcmp(optarg, "v7") == 0 ? 7 : 4;
        else if (option == 's')
            state = strtoull(optarg, NULL, 10);
        else
            return 64;
    }
    if (argc - optind != 4) {
        fprintf(stderr,
                "usage: %s URL QUEUE COUNT BODY-BYTES [--rate PER-SECOND] [--ids v4|v7] [--seed "
                "N]\n",
                argv[0]);
        return 64;
    }
    plan.queue = argv[optind + 1];
    plan.count = strtoull(argv[optind + 2], NULL, 10);
    plan.body_bytes = strtoull(argv[optind + 3], NULL, 10);
    amqp_connection_state_t connection = bench_connect(argv[optind]);
    amqp_confirm_select(connection, 1);
    bench_check_reply(amqp_get_rpc_reply(connection), "asking for confirms");
    publish_all(connection, &plan);
    bench_close(connection);
    return 0;
}
