/* Runs worlds by their seeds: sim [--seeds FROM..TO] [--trace SEED] [--progress] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim.h"

#define EX_USAGE 64
#define FAILURES_SHOWN 5
#define PROGRESS_EVERY 1000

struct options {
    uint64_t from, to;
    bool tracing, progress;
};

static int usage(void) {
    fprintf(stderr, "usage: sim [--seeds FROM..TO] [--trace SEED] [--progress]\n");
    return EX_USAGE;
}

static bool read_number(const char **text, uint64_t *ret) {
    char *end;
    *ret = strtoull(*text, &end, 10);
    bool any = end != *text;
    *text = end;
    return any;
}

static bool read_options(int argc, char **argv, struct options *options) {
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--progress") == 0) {
            options->progress = true;
        } else if (strcmp(argv[i], "--trace") == 0 && read_number(&value, &options->from)) {
            options->tracing = true;
            options->to = options->from;
            i++;
        } else if (strcmp(argv[i], "--seeds") == 0 && read_number(&value, &options->from) &&
                   strncmp(value, "..", 2) == 0 && (value += 2, true) &&
                   read_number(&value, &options->to) && options->to >= options->from) {
            i++;
        } else {
            return false;
        }
    }
    return true;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    struct options options = {.from = 1, .to = 3000};
    char failure[512];
    uint64_t failures = 0;
    if (!read_options(argc, argv, &options))
        return usage();
    double began = seconds();
    for (uint64_t seed = options.from; seed <= options.to && failures < FAILURES_SHOWN; seed++) {
        if (!sim_run(seed, options.tracing, failure, sizeof failure)) {
            failures++;
            printf("seed %llu: %s\n", (unsigned long long)seed, failure);
            fflush(stdout);
        }
        uint64_t done = seed - options.from + 1;
        if (options.progress && done % PROGRESS_EVERY == 0) {
            fprintf(stderr, "\r%llu of %llu seeds, %.0f a second ", (unsigned long long)done,
                    (unsigned long long)(options.to - options.from + 1),
                    (double)done / (seconds() - began));
            if (seed == options.to)
                fprintf(stderr, "\n");
        }
    }
    if (failures > 0) {
        printf("the whole story of a seed: %s --trace SEED\n", argv[0]);
        return 1;
    }
    printf("%llu seeds, all is well (%.1f s)\n",
           (unsigned long long)(options.to - options.from + 1), seconds() - began);
    return 0;
}
