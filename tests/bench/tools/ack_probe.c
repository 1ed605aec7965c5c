/* A proxy before the broker that measures, for any consumer, the time from an event's publication
 * to its ack. Each body says when it was sent ("sentAt", microseconds); an ack counts when it
 * passes here on its way to the broker. Prints the port that it listens on, and then one latency a
 * line, in microseconds. Ends with SIGTERM.
 *
 * usage: ack_probe BROKER-PORT */
#include <arpa/inet.h>
#include <endian.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TAGS 65536 /* more than any window */
#define FRAME_MAX 262144
#define FRAME_HEADER 7
#define PROTOCOL_HEADER 8
#define CLASS_BASIC 60
#define METHOD_DELIVER 60
#define METHOD_ACK 80

struct link {
    int worker, broker;
    pthread_mutex_t lock;
    int64_t sent_us[TAGS]; /* by delivery tag; 0: acked, or never delivered */
    uint64_t low;          /* all tags below are acked */
    uint64_t tag;          /* of the delivery whose body is passing */
};

/* One direction: what has come of a frame so far. */
struct stream {
    struct link *link;
    bool to_broker;
    size_t len, skip;
    unsigned char frame[FRAME_MAX];
};

static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;

static int64_t wall_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static uint64_t read_u64(const unsigned char *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return be64toh(value);
}

static uint32_t read_u32(const unsigned char *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return ntohl(value);
}

static unsigned read_u16(const unsigned char *at) {
    return (unsigned)at[0] << 8 | at[1];
}

static void acked(struct link *link, uint64_t tag, bool multiple) {
    int64_t now_us = wall_us();
    pthread_mutex_lock(&output);
    for (uint64_t at = multiple ? link->low : tag; at <= tag; at++) {
        int64_t *sent_us = &link->sent_us[at % TAGS];
        if (*sent_us)
            printf("%" PRId64 "\n", now_us - *sent_us);
        *sent_us = 0;
    }
    fflush(stdout);
    pthread_mutex_unlock(&output);
    if (multiple)
        link->low = tag + 1;
}

static void see_method(struct stream *stream, const unsigned char *payload) {
    struct link *link = stream->link;
    if (read_u16(payload) != CLASS_BASIC)
        return;
    if (!stream->to_broker && read_u16(payload + 2) == METHOD_DELIVER)
        link->tag = read_u64(payload + 5 + payload[4]);
    else if (stream->to_broker && read_u16(payload + 2) == METHOD_ACK)
        acked(link, read_u64(payload + 4), payload[12] & 1);
}

static void see_body(struct stream *stream, const unsigned char *payload, size_t len) {
    static const char field[] = "\"sentAt\":";
    const char *found = memmem(payload, len, field, sizeof field - 1);
    if (!stream->to_broker && found)
        stream->link->sent_us[stream->link->tag % TAGS] =
            strtoll(found + sizeof field - 1, NULL, 10);
}

/* Looks at the whole frames that these bytes complete. */
static void see(struct stream *stream, const unsigned char *bytes, size_t len) {
    size_t skipped = len < stream->skip ? len : stream->skip;
    stream->skip -= skipped;
    if (stream->len + len - skipped > sizeof stream->frame)
        exit(1);
    memcpy(stream->frame + stream->len, bytes + skipped, len - skipped);
    stream->len += len - skipped;
    size_t at = 0;
    while (stream->len - at >= FRAME_HEADER) {
        const unsigned char *frame = stream->frame + at;
        size_t payload_len = read_u32(frame + 3);
        if (stream->len - at < FRAME_HEADER + payload_len + 1)
            break;
        pthread_mutex_lock(&stream->link->lock);
        if (frame[0] == 1)
            see_method(stream, frame + FRAME_HEADER);
        else if (frame[0] == 3)
            see_body(stream, frame + FRAME_HEADER, payload_len);
        pthread_mutex_unlock(&stream->link->lock);
        at += FRAME_HEADER + payload_len + 1;
    }
    memmove(stream->frame, stream->frame + at, stream->len - at);
    stream->len -= at;
}

static void *pass(void *arg) {
    struct stream *stream = arg;
    int from = stream->to_broker ? stream->link->worker : stream->link->broker;
    int to = stream->to_broker ? stream->link->broker : stream->link->worker;
    unsigned char bytes[65536];
    ssize_t got;
    while ((got = read(from, bytes, sizeof bytes)) > 0) {
        see(stream, bytes, (size_t)got);
        for (ssize_t at = 0; at < got;) {
            ssize_t put = write(to, bytes + at, (size_t)(got - at));
            if (put <= 0)
                goto end;
            at += put;
        }
    }
end:
    shutdown(from, SHUT_RDWR);
    shutdown(to, SHUT_RDWR);
    return NULL;
}

static struct sockaddr_in loopback(unsigned port) {
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void no_delay(int fd) {
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* A link lives as long as the program: there are few. */
static void link_up(int worker, unsigned broker_port) {
    struct sockaddr_in address = loopback(broker_port);
    struct link *link = calloc(1, sizeof *link);
    int broker = socket(AF_INET, SOCK_STREAM, 0);
    if (!link || connect(broker, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("ack_probe");
        exit(1);
    }
    no_delay(worker);
    no_delay(broker);
    *link = (struct link){.worker = worker, .broker = broker, .low = 1};
    pthread_mutex_init(&link->lock, NULL);
    for (int to_broker = 0; to_broker < 2; to_broker++) {
        struct stream *stream = calloc(1, sizeof *stream);
        pthread_t thread;
        if (!stream)
            exit(1);
        stream->link = link;
        stream->to_broker = to_broker;
        stream->skip = to_broker ? PROTOCOL_HEADER : 0;
        if (pthread_create(&thread, NULL, pass, stream) != 0)
            exit(1);
        pthread_detach(thread);
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (argc != 2 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 16) != 0 || getsockname(listener, (struct sockaddr *)&address, &size)) {
        fprintf(stderr, "usage: %s BROKER-PORT\n", argv[0]);
        return 64;
    }
    signal(SIGPIPE, SIG_IGN);
    printf("%u\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int worker = accept(listener, NULL, NULL);
        if (worker >= 0)
            link_up(worker, (unsigned)strtoul(argv[1], NULL, 10));
    }
}
