#include "supervisor/processors.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* The group's path below the root, without a slash at its end; "" where none is told. */
static void read_own(const char *file, char ret_path[PATH_MAX]) {
    char line[PATH_MAX];
    FILE *in = fopen(file, "re");
    ret_path[0] = '\0';
    while (in && fgets(line, sizeof line, in)) {
        if (strncmp(line, "0::", 3) != 0)
            continue;
        size_t len = strcspn(line + 3, "\n");
        while (len > 0 && line[3 + len - 1] == '/')
            len--;
        memcpy(ret_path, line + 3, len);
        ret_path[len] = '\0';
        break;
    }
    if (in)
        fclose(in);
}

/* 0: none */
static unsigned quota_of(const char *root, const char *group) {
    char path[2 * PATH_MAX];
    long long quota_us, period_us;
    snprintf(path, sizeof path, "%s%s/cpu.max", root, group);
    FILE *in = fopen(path, "re");
    if (!in)
        return 0;
    /* without a quota there is a word in the place of the first number */
    bool limited =
        fscanf(in, "%lld %lld", &quota_us, &period_us) == 2 && quota_us > 0 && period_us > 0;
    fclose(in);
    if (!limited)
        return 0;
    long long processors = quota_us / period_us + (quota_us % period_us != 0);
    return processors < UINT_MAX ? (unsigned)processors : 0;
}

unsigned lvt_processors_of_quota(const char *root, const char *own) {
    char group[PATH_MAX];
    unsigned least = 0;
    read_own(own, group);
    for (;;) {
        unsigned quota = quota_of(root, group);
        if (quota > 0 && (least == 0 || quota < least))
            least = quota;
        char *slash = strrchr(group, '/');
        if (!slash)
            return least;
        *slash = '\0';
    }
}

unsigned lvt_processors(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1; /* more processors than the set has room for: let the user say how many */
    int count = CPU_COUNT(&set);
    unsigned processors = count > 0 ? (unsigned)count : 1;
    unsigned quota = lvt_processors_of_quota("/sys/fs/cgroup", "/proc/self/cgroup");
    return quota > 0 && quota < processors ? quota : processors;
}
