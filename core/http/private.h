/* What the files of this folder share. */
#ifndef LEVERET_HTTP_PRIVATE_H
#define LEVERET_HTTP_PRIVATE_H

#include <curl/curl.h>

#include "base/buffer.h"
#include "http/http.h"

#define LVT_HTTP_HEADERS_MAX 256

/* Where a header's name and value are in the text. */
struct lvt_http_span {
    uint32_t name, name_len, value, value_len;
};

/* One request with its answer. Kept, with its easy handle, for the next request. */
struct lvt_transfer {
    struct lvt_transfer *prev, *next; /* of all at work, or (next) of the pool */
    struct lvt_http *http;
    CURL *easy;
    lvt_http_done *done;
    void *ctx;
    struct curl_slist *headers;
    const char *failure; /* static; why it ended before curl could tell */
    char error[CURL_ERROR_SIZE];
    struct lvt_buffer request_body;
    struct lvt_buffer body;
    struct lvt_buffer header_text;
    struct lvt_buffer spans; /* of struct lvt_http_span */
};

/* Fills in a fresh or used transfer. False when the request cannot be made: `error` says why. */
bool lvt_transfer_prepare(struct lvt_transfer *transfer, const struct lvt_http_request *request);
/* Calls done, once. */
void lvt_transfer_answer(struct lvt_transfer *transfer, CURLcode code);
/* Makes it fit for the pool. */
void lvt_transfer_reset(struct lvt_transfer *transfer);

/* curl closes this socket of ours: closes it, once the loop has let go of it. */
int lvt_http_socket_closing(void *http, curl_socket_t fd);

struct lvt_transfer *lvt_transfer_new(struct lvt_http *http);
void lvt_transfer_free(struct lvt_transfer *transfer);

#endif
