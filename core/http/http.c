#include "http/http.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "http/private.h"

#define CONNECTIONS_MAX 4096
#define POOL_MAX 1024

/* A socket of curl's and its poll handle. They stay together until the socket is closed: curl lets
 * go of a kept connection between two requests, and a new handle each time costs system calls. */
struct watch {
    uv_poll_t poll;
    struct lvt_http *http;
    curl_socket_t fd;
    int events; /* of libuv; 0: stopped */
};

struct lvt_http {
    uv_loop_t *loop;
    CURLM *multi;
    uv_timer_t curl_timer;
    uv_timer_t refused_timer;
    struct watch **watches; /* by file descriptor */
    size_t watch_size;
    struct lvt_transfer *working;
    struct lvt_transfer *refused; /* to be answered with their error once the asking is over */
    struct lvt_transfer *pool;
    size_t count, pooled;
    bool closing;
    unsigned handles;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* ---- transfers ---- */

static struct lvt_transfer *transfer_get(struct lvt_http *http) {
    struct lvt_transfer *transfer = http->pool;
    if (!transfer)
        return lvt_transfer_new(http);
    http->pool = transfer->next;
    http->pooled--;
    return transfer;
}

/* Answers, and puts the transfer aside. The answer may ask again. */
static void finish(struct lvt_transfer *transfer, CURLcode code) {
    struct lvt_http *http = transfer->http;
    http->count--;
    lvt_transfer_answer(transfer, code);
    if (http->closing || http->pooled >= POOL_MAX) {
        lvt_transfer_free(transfer);
        return;
    }
    lvt_transfer_reset(transfer);
    transfer->next = http->pool;
    http->pool = transfer;
    http->pooled++;
}

static void working_add(struct lvt_transfer *transfer) {
    struct lvt_http *http = transfer->http;
    transfer->prev = NULL;
    transfer->next = http->working;
    if (http->working)
        http->working->prev = transfer;
    http->working = transfer;
}

static void working_take(struct lvt_transfer *transfer) {
    if (transfer->prev)
        transfer->prev->next = transfer->next;
    else
        transfer->http->working = transfer->next;
    if (transfer->next)
        transfer->next->prev = transfer->prev;
}

static void answer_finished(struct lvt_http *http) {
    CURLMsg *message;
    int left;
    while (!http->closing && (message = curl_multi_info_read(http->multi, &left))) {
        if (message->msg != CURLMSG_DONE)
            continue;
        CURL *easy = message->easy_handle;
        CURLcode code = message->data.result;
        char *private = NULL;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
        struct lvt_transfer *transfer = (struct lvt_transfer *)(void *)private;
        curl_multi_remove_handle(http->multi, easy);
        working_take(transfer);
        finish(transfer, code);
    }
}

/* ---- curl's sockets and time, on the loop ---- */

static void answer_refused(struct lvt_http *http);

static void handle_closed(struct lvt_http *http) {
    if (--http->handles > 0 || !http->closing)
        return;
    while (http->refused)
        answer_refused(http);
    http->closed(http->closed_ctx);
}

static void on_socket(uv_poll_t *poll, int status, int events) {
    struct watch *watch = poll->data;
    struct lvt_http *http = watch->http;
    int flags = status < 0 ? CURL_CSELECT_ERR : 0;
    flags |= events & UV_READABLE ? CURL_CSELECT_IN : 0;
    flags |= events & UV_WRITABLE ? CURL_CSELECT_OUT : 0;
    int running;
    if (status < 0) /* libuv has stopped it, and there may be more to read before the error */
        uv_poll_start(poll, watch->events, on_socket);
    curl_multi_socket_action(http->multi, watch->fd, flags, &running);
    answer_finished(http);
}

static void on_timer(uv_timer_t *timer) {
    struct lvt_http *http = timer->data;
    int running;
    curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    answer_finished(http);
}

static int set_timer(CURLM *multi, long timeout_ms, void *ctx) {
    struct lvt_http *http = ctx;
    (void)multi;
    if (http->closing)
        return 0;
    if (timeout_ms < 0)
        uv_timer_stop(&http->curl_timer);
    else
        uv_timer_start(&http->curl_timer, on_timer, (uint64_t)timeout_ms, 0);
    return 0;
}

static void watch_closed(uv_handle_t *handle) {
    struct watch *watch = handle->data;
    struct lvt_http *http = watch->http;
    free(watch);
    handle_closed(http);
}

static void watch_end(struct lvt_http *http, curl_socket_t fd) {
    if ((size_t)fd >= http->watch_size || !http->watches[fd])
        return;
    uv_close((uv_handle_t *)&http->watches[fd]->poll, watch_closed);
    http->watches[fd] = NULL;
}

static struct watch *watch_get(struct lvt_http *http, curl_socket_t fd) {
    if ((size_t)fd >= http->watch_size) {
        size_t size = ((size_t)fd + 1) * 2;
        struct watch **watches = realloc(http->watches, size * sizeof *watches);
        if (!watches)
            return NULL;
        memset(watches + http->watch_size, 0, (size - http->watch_size) * sizeof *watches);
        http->watches = watches;
        http->watch_size = size;
    }
    if (http->watches[fd])
        return http->watches[fd];
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch || uv_poll_init_socket(http->loop, &watch->poll, fd) != 0) {
        free(watch);
        return NULL;
    }
    watch->poll.data = watch;
    watch->http = http;
    watch->fd = fd;
    http->watches[fd] = watch;
    http->handles++;
    return watch;
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx) {
    struct lvt_http *http = ctx;
    (void)easy, (void)socket_ctx;
    int events = 0;
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
        events |= UV_READABLE;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
        events |= UV_WRITABLE;
    bool known = (size_t)fd < http->watch_size && http->watches[fd];
    if (!events && !known)
        return 0;
    struct watch *watch = watch_get(http, fd);
    if (!watch)
        return -1;
    if (watch->events == events)
        return 0;
    watch->events = events;
    if (events)
        uv_poll_start(&watch->poll, events, on_socket);
    else
        uv_poll_stop(&watch->poll);
    return 0;
}

int lvt_http_socket_closing(void *ctx, curl_socket_t fd) {
    watch_end(ctx, fd);
    return close(fd);
}

/* ---- port ---- */

static void answer_refused(struct lvt_http *http) {
    struct lvt_transfer *transfer = http->refused;
    http->refused = NULL; /* what these answers ask for waits for the next */
    while (transfer) {
        struct lvt_transfer *next = transfer->next;
        finish(transfer, CURLE_FAILED_INIT);
        transfer = next;
    }
}

static void refused_due(uv_timer_t *timer) {
    answer_refused(timer->data);
}

static void refuse(struct lvt_transfer *transfer) {
    struct lvt_http *http = transfer->http;
    transfer->next = http->refused;
    http->refused = transfer;
    /* 1 ms: a timer of 0 started by its own callback would keep the loop from its other work. */
    if (!http->closing && !uv_is_active((uv_handle_t *)&http->refused_timer))
        uv_timer_start(&http->refused_timer, refused_due, 1, 0);
}

static void port_request(void *self, const struct lvt_http_request *request, lvt_http_done *done,
                         void *ctx) {
    struct lvt_http *http = self;
    struct lvt_transfer *transfer = transfer_get(http);
    if (!transfer)
        return;
    transfer->done = done;
    transfer->ctx = ctx;
    if (http->closing)
        transfer->failure = "the worker is closing";
    else if (http->count >= LVT_HTTP_REQUESTS_MAX)
        transfer->failure = "too many HTTP requests are waiting";
    http->count++;
    if (transfer->failure || !lvt_transfer_prepare(transfer, request)) {
        refuse(transfer);
        return;
    }
    CURLMcode code = curl_multi_add_handle(http->multi, transfer->easy);
    if (code == CURLM_OK) {
        working_add(transfer);
    } else {
        transfer->failure = curl_multi_strerror(code);
        refuse(transfer);
    }
}

struct lvt_http_port lvt_http_port(struct lvt_http *http) {
    return (struct lvt_http_port){.self = http, .request = port_request};
}

/* ---- life ---- */

/* Open at a time, half of the files that the process may open; requests beyond wait, and their
 * timeout runs. */
static long most_connections(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > 2 * CONNECTIONS_MAX)
        return CONNECTIONS_MAX;
    return limit.rlim_cur >= 4 ? (long)limit.rlim_cur / 2 : 1;
}

enum leveret_code lvt_http_new(uv_loop_t *loop, struct lvt_http **ret_http,
                               struct leveret_error *err) {
    struct lvt_http *http = calloc(1, sizeof *http);
    if (!http)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(http);
        return leveret_fail(err, LEVERET_SYSTEM, "libcurl cannot be initialised");
    }
    http->multi = curl_multi_init();
    if (!http->multi) {
        curl_global_cleanup();
        free(http);
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    }
    long connections = most_connections();
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    curl_multi_setopt(http->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections);
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, connections); /* kept when idle */
    http->loop = loop;
    uv_timer_init(http->loop, &http->curl_timer); /* cannot fail */
    uv_timer_init(http->loop, &http->refused_timer);
    http->curl_timer.data = http->refused_timer.data = http;
    http->handles = 2;
    *ret_http = http;
    return LEVERET_OK;
}

static void timer_closed(uv_handle_t *handle) {
    handle_closed(handle->data);
}

void lvt_http_close(struct lvt_http *http, void (*closed)(void *ctx), void *ctx) {
    if (!http) {
        closed(ctx);
        return;
    }
    http->closing = true;
    http->closed = closed;
    http->closed_ctx = ctx;
    uv_close((uv_handle_t *)&http->curl_timer, timer_closed);
    uv_close((uv_handle_t *)&http->refused_timer, timer_closed);
    struct lvt_transfer *transfer;
    while ((transfer = http->working)) {
        curl_multi_remove_handle(http->multi, transfer->easy);
        working_take(transfer);
        transfer->failure = "the worker is closing";
        finish(transfer, CURLE_ABORTED_BY_CALLBACK);
    }
    while ((transfer = http->pool)) {
        http->pool = transfer->next;
        lvt_transfer_free(transfer);
    }
    curl_multi_cleanup(http->multi);
    /* The name resolver's sockets are closed without a word. */
    for (size_t fd = 0; fd < http->watch_size; fd++)
        watch_end(http, (curl_socket_t)fd);
}

void lvt_http_free(struct lvt_http *http) {
    if (!http)
        return;
    struct lvt_transfer *transfer;
    while ((transfer = http->refused)) { /* asked for after the close */
        http->refused = transfer->next;
        lvt_transfer_free(transfer);
    }
    free(http->watches);
    free(http);
    curl_global_cleanup();
}

const char *lvt_http_library(void) {
    return curl_version();
}
