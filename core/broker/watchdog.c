#include "broker/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "broker/eventfd.h"

#define LOOK_EVERY_MS 500

enum leveret_code lvt_watchdog_init(struct lvt_watchdog *dog, struct leveret_error *err) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return leveret_fail(err, LEVERET_SYSTEM, "cannot create an eventfd: %s", strerror(errno));
    }
    *dog = (struct lvt_watchdog){.wake_fd = fd};
    pthread_mutex_init(&dog->mutex, NULL);
    for (size_t i = 0; i < LVT_WATCHES; i++) {
        dog->watches[i] = (struct lvt_watch){.dog = dog, .fd = -1};
    }
    return LEVERET_OK;
}

void lvt_watchdog_free(struct lvt_watchdog *dog) {
    close(dog->wake_fd);
    pthread_mutex_destroy(&dog->mutex);
}

static void look(struct lvt_watchdog *dog) {
    uint64_t now_ms = lvt_now_ms();
    for (size_t i = 0; i < LVT_WATCHES; i++) {
        struct lvt_watch *watch = &dog->watches[i];
        bool late = watch->last_due_ms != 0 && now_ms >= watch->last_due_ms;
        if (watch->fd >= 0 && watch->due_ms != 0 && (late || now_ms >= watch->due_ms)) {
            shutdown(watch->fd, SHUT_RDWR);
        }
    }
}

static void *run(void *arg) {
    struct lvt_watchdog *dog = arg;
    for (;;) {
        lvt_eventfd_wait(dog->wake_fd, LOOK_EVERY_MS);
        pthread_mutex_lock(&dog->mutex);
        bool stop = dog->stop;
        look(dog);
        pthread_mutex_unlock(&dog->mutex);
        if (stop) {
            return NULL;
        }
    }
}

enum leveret_code lvt_watchdog_start(struct lvt_watchdog *dog, struct leveret_error *err) {
    enum leveret_code code = lvt_thread_start(&dog->thread, 0, run, dog, err);
    dog->started = code == LEVERET_OK;
    return code;
}

void lvt_watchdog_stop(struct lvt_watchdog *dog) {
    if (!dog->started) {
        return;
    }
    pthread_mutex_lock(&dog->mutex);
    dog->stop = true;
    pthread_mutex_unlock(&dog->mutex);
    lvt_eventfd_wake(dog->wake_fd);
    pthread_join(dog->thread, NULL);
    dog->started = false;
}

enum leveret_code lvt_watch_attach(struct lvt_watch *watch, int fd, struct leveret_error *err) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) {
        return leveret_fail(err, LEVERET_SYSTEM, "cannot duplicate a socket: %s", strerror(errno));
    }
    pthread_mutex_lock(&watch->dog->mutex);
    watch->fd = copy;
    pthread_mutex_unlock(&watch->dog->mutex);
    return LEVERET_OK;
}

void lvt_watch_detach(struct lvt_watch *watch) {
    pthread_mutex_lock(&watch->dog->mutex);
    if (watch->fd >= 0) {
        close(watch->fd);
    }
    watch->fd = -1;
    watch->due_ms = 0;
    pthread_mutex_unlock(&watch->dog->mutex);
}

void lvt_watch_enter(struct lvt_watch *watch, uint64_t limit_ms) {
    uint64_t due_ms = lvt_now_ms() + limit_ms;
    pthread_mutex_lock(&watch->dog->mutex);
    watch->due_ms = due_ms;
    pthread_mutex_unlock(&watch->dog->mutex);
}

void lvt_watch_leave(struct lvt_watch *watch) {
    pthread_mutex_lock(&watch->dog->mutex);
    watch->due_ms = 0;
    pthread_mutex_unlock(&watch->dog->mutex);
}

void lvt_watch_hurry(struct lvt_watch *watch, uint64_t last_due_ms) {
    pthread_mutex_lock(&watch->dog->mutex);
    watch->last_due_ms = last_due_ms;
    pthread_mutex_unlock(&watch->dog->mutex);
}
