#include "supervisor/notify.h"

#include <stdbool.h>
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
static void set_address(struct lvt_notify *notify, const char *path) {
    size_t len = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || len < 2 || len >= sizeof notify->address.sun_path)
        return;
    notify->address.sun_family = AF_UNIX;
    memcpy(notify->address.sun_path, path, len);
    if (path[0] == '@')
        notify->address.sun_path[0] = 0;
    else
        len++; /* with its NUL */
    notify->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

void lvt_notify_open(struct lvt_notify *notify) {
    const char *path = getenv("NOTIFY_SOCKET");
    *notify = (struct lvt_notify){.fd = -1};
    if (path)
        set_address(notify, path);
    if (notify->address_len > 0)
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

/* A socket that has failed may go on failing: the next try is with another. */
static bool send_text(struct lvt_notify *notify, const char *text) {
    if (notify->fd < 0)
        notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (notify->fd >= 0 &&
        sendto(notify->fd, text, strlen(text), MSG_NOSIGNAL,
               (const struct sockaddr *)&notify->address, notify->address_len) >= 0)
        return true;
    lvt_notify_close(notify);
    return false;
}

void lvt_notify_again(struct lvt_notify *notify) {
    if (notify->unsent[0] && send_text(notify, notify->unsent))
        notify->unsent[0] = 0;
}

void lvt_notify_send(struct lvt_notify *notify, const char *format, ...) {
    char text[LVT_NOTIFY_BYTES];
    va_list args;
    if (notify->address_len == 0)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    lvt_notify_again(notify); /* in order */
    if (send_text(notify, text))
        notify->unsent[0] = 0; /* it is out of date */
    else
        memcpy(notify->unsent, text, sizeof text);
}
