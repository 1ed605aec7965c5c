#ifndef LEVERET_SUPERVISOR_PROCESSORS_H
#define LEVERET_SUPERVISOR_PROCESSORS_H

/* As many processors as this process may use, at least 1: those that it may run on, and no more
 * than the quota of its container allows, rounded up. */
unsigned lvt_processors(void);

/* What the quotas of a control group and of those above it allow (cpu.max of version 2), rounded
 * up; 0: they have none. `root` is where control groups are mounted, `own` a file like
 * /proc/self/cgroup. */
unsigned lvt_processors_of_quota(const char *root, const char *own);

#endif
