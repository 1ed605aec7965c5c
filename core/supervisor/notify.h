/* systemd's notify protocol: datagrams to a socket that it names. Without one, nothing. */
#ifndef LEVERET_SUPERVISOR_NOTIFY_H
#define LEVERET_SUPERVISOR_NOTIFY_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/error.h"

#define LVT_NOTIFY_BYTES 512

struct lvt_notify {
    int fd; /* -1: there is none (yet) */
    struct sockaddr_un address;
    socklen_t address_len; /* 0: nobody listens */
    uint64_t watchdog_ms;  /* a sign of life is due this often; 0: nobody waits for one */
    uint64_t alive_at_ms;  /* when it was last given */
    char unsent[LVT_NOTIFY_BYTES];
};

/* As NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID have it; takes them out of the environment,
 * since lanes and what they start are not to use them. */
void lvt_notify_open(struct lvt_notify *notify);
void lvt_notify_close(struct lvt_notify *notify);

/* Lines such as "READY=1\nSTATUS=working". What cannot be sent is kept until the next ones. */
void lvt_notify_send(struct lvt_notify *notify, const char *format, ...) LVT_PRINTF(2, 3);
/* Another try with what was kept: systemd waits for a READY=1 that it was promised. */
void lvt_notify_again(struct lvt_notify *notify);

#endif
