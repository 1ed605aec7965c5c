/* HTTP requests of handlers, on the loop: http and https, HTTP/1.1, connections kept and used
 * again. A redirect is not followed: its status and `location` are the answer, and the handler
 * decides. Proxies are taken from the usual variables (http_proxy, no_proxy, ...).
 *
 * All of it belongs to the loop's thread, where SIGPIPE is held (base/sigpipe.h): TLS libraries
 * write without MSG_NOSIGNAL. */
#ifndef LEVERET_HTTP_HTTP_H
#define LEVERET_HTTP_HTTP_H

#include <uv.h>

#include "base/error.h"
#include "engine/ports.h"

/* Of an answer. What is bigger ends the request with an error. */
#define LVT_HTTP_BODY_MAX (1u << 20)
#define LVT_HTTP_HEADERS_BYTES_MAX 65536u

/* Of a request that names none. */
#define LVT_HTTP_TIMEOUT_MS 30000u

/* Asked for and not answered; more are answered with an error. */
#define LVT_HTTP_REQUESTS_MAX 20000u

struct lvt_http;

/* Calls curl_global_init, which is not safe while other threads start to use libcurl. */
enum leveret_code lvt_http_new(uv_loop_t *loop, struct lvt_http **ret_http,
                               struct leveret_error *err) LVT_MUST_CHECK;

/* Requests are copied. Valid until close. When no memory is left to ask with, the answer never
 * comes. */
struct lvt_http_port lvt_http_port(struct lvt_http *http);

/* Aborts all requests: each is answered with an error. Calls closed from the loop (at once when
 * http is NULL); then http may be freed. What is asked for after that is never
 * answered. */
void lvt_http_close(struct lvt_http *http, void (*closed)(void *ctx), void *ctx);
void lvt_http_free(struct lvt_http *http);

/* Its client library and version, such as "libcurl/7.88.1". Static storage. */
const char *lvt_http_library(void);

#endif
