#include "supervisor/notify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t watchdog_of(const char *usec, const char *pid) {
    if (!usec || (pid && strtoll(pid, NULL, 10) != getpid()))
        return 0;
    uint64_t whole_ms = strtoull(usec, NULL, 10) / 1000;
    return whole_ms / 2;
}

/* "/path", or "@name" for one of the abstract ones. */
static int address_of(const char *path, struct sockaddr_un *ret_address, socklen_t *ret_len) {
    size_t len = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || len < 2 || len >= sizeof ret_address->sun_path)
        return -1;
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret_address->sun_path, path, len);
    if (path[0] == '@')
        ret_address->sun_path[0] = 0;
    else
        len++; /* with its NUL */
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

void lvt_notify_open(struct lvt_notify *notify) {
    const char *path = getenv("NOTIFY_SOCKET");
    *notify = (struct lvt_notify){.fd = -1};
    if (path)
        notify->fd = address_of(path, &notify->address, &notify->address_len);
    if (notify->fd >= 0)
        notify->watchdog_ms = watchdog_of(getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID"));
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void lvt_notify_close(struct lvt_notify *notify) {
    if (notify->fd >= 0)
        close(notify->fd);
    notify->fd = -1;
}

void lvt_notify_send(const struct lvt_notify *notify, const char *format, ...) {
    char text[512];
    va_list args;
    if (notify->fd < 0)
        return;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len > 0 && (size_t)len < sizeof text)
        (void)sendto(notify->fd, text, (size_t)len, MSG_NOSIGNAL,
                     (const struct sockaddr *)&notify->address, notify->address_len);
}
