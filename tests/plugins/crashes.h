/* A plugin that ends the process in the way that the event's payload names, {"do": "segv"}, or its
 * configuration, {"open": "segv"}. */
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "leveret/plugin.h"

static const struct leveret_host *host;

static void block(int64_t ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time) != 0)
        continue;
}

/* Each call has a frame that must be kept until it returns. */
__attribute__((noinline, no_sanitize("address"))) static int overflow(volatile int *depth) {
    volatile int frame[512];
    frame[0] = *depth + 1;
    if (frame[0] < 0)
        return 0;
    int below = overflow(&frame[0]);
    return below + frame[0];
}

static void crash(const char *how) {
    volatile int none = 0;
    if (strcmp(how, "segv") == 0) {
        volatile uintptr_t nowhere = 8; /* unknown to the compiler, which would warn */
        *(volatile int *)nowhere = 1;
    }
    if (strcmp(how, "abort") == 0)
        abort();
    if (strcmp(how, "exit") == 0)
        exit(3);
    if (strcmp(how, "leave") == 0)
        _exit(4);
    if (strcmp(how, "overflow") == 0)
        overflow(&none);
    while (strcmp(how, "hang") == 0)
        block(1000);
}

static int32_t open_plugin(struct leveret_handler *handler, struct leveret_text config,
                           void **ret_self, char *error, size_t error_size) {
    char how[32] = "";
    (void)error, (void)error_size;
    host->json_string(config, "/open", how, sizeof how);
    crash(how);
    *ret_self = handler;
    return 0;
}

static void close_plugin(void *self) {
    (void)self;
}

static int32_t handle(void *self, struct leveret_event event) {
    const struct leveret_event_info *info = host->info(event);
    char how[32] = "";
    int64_t ms = 0;
    (void)self;
    host->json_string(info->payload, "/do", how, sizeof how);
    host->json_integer(info->payload, "/ms", &ms);
    block(ms);
    crash(how);
    return LEVERET_DONE;
}
