/* hiredis's event hooks over a uv_poll_t. hiredis 0.14's own adapter leaks when the handle cannot
 * be made, drops poll errors, and does not say when a connection without calls ends. */
#include <stdlib.h>

#include "cache/private.h"

struct lvt_attachment {
    uv_poll_t poll;
    redisAsyncContext *connection; /* NULL once hiredis has let go of it */
    int events;
    void (*gone)(void *ctx, redisAsyncContext *connection);
    void (*closed)(void *ctx);
    void *ctx;
};

static void ready(uv_poll_t *poll, int status, int events) {
    struct lvt_attachment *attachment = poll->data;
    /* A poll error is the socket's: reading brings it to light, once all is read that came before
     * it. libuv has stopped the handle. */
    if (status < 0)
        uv_poll_start(poll, attachment->events, ready);
    if (attachment->connection && (status < 0 || (events & UV_READABLE)))
        redisAsyncHandleRead(attachment->connection);
    if (attachment->connection && status == 0 && (events & UV_WRITABLE))
        redisAsyncHandleWrite(attachment->connection);
}

static void update(struct lvt_attachment *attachment, int events) {
    if (events == attachment->events)
        return;
    attachment->events = events;
    if (events)
        uv_poll_start(&attachment->poll, events, ready);
    else
        uv_poll_stop(&attachment->poll);
}

static void add_read(void *self) {
    struct lvt_attachment *attachment = self;
    update(attachment, attachment->events | UV_READABLE);
}

static void del_read(void *self) {
    struct lvt_attachment *attachment = self;
    update(attachment, attachment->events & ~UV_READABLE);
}

static void add_write(void *self) {
    struct lvt_attachment *attachment = self;
    update(attachment, attachment->events | UV_WRITABLE);
}

static void del_write(void *self) {
    struct lvt_attachment *attachment = self;
    update(attachment, attachment->events & ~UV_WRITABLE);
}

static void poll_closed(uv_handle_t *handle) {
    struct lvt_attachment *attachment = handle->data;
    void (*closed)(void *ctx) = attachment->closed;
    void *ctx = attachment->ctx;
    free(attachment);
    closed(ctx);
}

static void cleanup(void *self) {
    struct lvt_attachment *attachment = self;
    redisAsyncContext *connection = attachment->connection;
    attachment->connection = NULL;
    uv_close((uv_handle_t *)&attachment->poll, poll_closed);
    attachment->gone(attachment->ctx, connection);
}

bool lvt_attach(redisAsyncContext *connection, uv_loop_t *loop,
                void (*gone)(void *ctx, redisAsyncContext *connection), void (*closed)(void *ctx),
                void *ctx) {
    struct lvt_attachment *attachment = calloc(1, sizeof *attachment);
    if (!attachment)
        return false;
    if (uv_poll_init_socket(loop, &attachment->poll, connection->c.fd) != 0) {
        free(attachment);
        return false;
    }
    attachment->poll.data = attachment;
    attachment->connection = connection;
    attachment->gone = gone;
    attachment->closed = closed;
    attachment->ctx = ctx;
    connection->ev.data = attachment;
    connection->ev.addRead = add_read;
    connection->ev.delRead = del_read;
    connection->ev.addWrite = add_write;
    connection->ev.delWrite = del_write;
    connection->ev.cleanup = cleanup;
    return true;
}
