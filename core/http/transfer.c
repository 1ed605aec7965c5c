/* A request as curl wants it, and its answer as handlers get it. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http/private.h"

#define URL_BYTES_MAX 16384
#define METHOD_BYTES_MAX 32
#define REQUEST_BODY_MAX (16u << 20)
/* curl reads into a buffer of this size, one for each transfer at work. */
#define READ_BUFFER_BYTES 8192L

struct lvt_transfer *lvt_transfer_new(struct lvt_http *http) {
    struct lvt_transfer *transfer = calloc(1, sizeof *transfer);
    if (!transfer)
        return NULL;
    transfer->easy = curl_easy_init();
    if (!transfer->easy) {
        free(transfer);
        return NULL;
    }
    transfer->http = http;
    lvt_buffer_init(&transfer->request_body, REQUEST_BODY_MAX);
    lvt_buffer_init(&transfer->body, LVT_HTTP_BODY_MAX);
    lvt_buffer_init(&transfer->header_text, LVT_HTTP_HEADERS_BYTES_MAX);
    lvt_buffer_init(&transfer->spans, LVT_HTTP_HEADERS_MAX * sizeof(struct lvt_http_span));
    return transfer;
}

/* Keeps small buffers, so that a pool of a thousand stays small too. */
static void buffer_reset(struct lvt_buffer *buffer) {
    size_t max = buffer->max;
    if (buffer->size <= 4096) {
        lvt_buffer_clear(buffer);
        return;
    }
    lvt_buffer_free(buffer);
    lvt_buffer_init(buffer, max);
}

void lvt_transfer_reset(struct lvt_transfer *transfer) {
    curl_easy_reset(transfer->easy);
    curl_slist_free_all(transfer->headers);
    transfer->headers = NULL;
    transfer->failure = NULL;
    transfer->error[0] = 0;
    buffer_reset(&transfer->request_body);
    buffer_reset(&transfer->body);
    buffer_reset(&transfer->header_text);
    buffer_reset(&transfer->spans);
}

void lvt_transfer_free(struct lvt_transfer *transfer) {
    if (!transfer)
        return;
    curl_easy_cleanup(transfer->easy);
    curl_slist_free_all(transfer->headers);
    lvt_buffer_free(&transfer->request_body);
    lvt_buffer_free(&transfer->body);
    lvt_buffer_free(&transfer->header_text);
    lvt_buffer_free(&transfer->spans);
    free(transfer);
}

/* ---- the answer ---- */

static size_t on_body(char *data, size_t size, size_t count, void *ctx) {
    struct lvt_transfer *transfer = ctx;
    lvt_buffer_append(&transfer->body, data, size * count);
    if (!transfer->body.failed)
        return size * count;
    transfer->failure = "the answer's body is over 1 MiB";
    return 0;
}

static size_t on_header(char *data, size_t size, size_t count, void *ctx) {
    struct lvt_transfer *transfer = ctx;
    size_t len = size * count, used = len;
    while (used > 0 && isspace((unsigned char)data[used - 1]))
        used--;
    if (used > 5 && memcmp(data, "HTTP/", 5) == 0) { /* after a 100 there is another head */
        lvt_buffer_clear(&transfer->header_text);
        lvt_buffer_clear(&transfer->spans);
        return len;
    }
    const char *colon = memchr(data, ':', used);
    if (!colon)
        return len;
    size_t name_len = (size_t)(colon - data), value = name_len + 1;
    while (value < used && isspace((unsigned char)data[value]))
        value++;
    struct lvt_buffer *text = &transfer->header_text;
    struct lvt_http_span span = {.name = (uint32_t)text->len,
                                 .name_len = (uint32_t)name_len,
                                 .value = (uint32_t)(text->len + name_len),
                                 .value_len = (uint32_t)(used - value)};
    lvt_buffer_append(text, data, name_len);
    lvt_buffer_append(text, data + value, used - value);
    lvt_buffer_append(&transfer->spans, &span, sizeof span);
    if (text->failed || transfer->spans.failed) {
        transfer->failure = "the answer has too many headers (at most 256, and 64 KiB)";
        return 0;
    }
    for (size_t i = 0; i < name_len; i++)
        text->data[span.name + i] = (char)tolower((unsigned char)text->data[span.name + i]);
    return len;
}

void lvt_transfer_answer(struct lvt_transfer *transfer, CURLcode code) {
    if (code != CURLE_OK) {
        const char *error = transfer->failure    ? transfer->failure
                            : transfer->error[0] ? transfer->error
                                                 : curl_easy_strerror(code);
        transfer->done(transfer->ctx, NULL, error);
        return;
    }
    struct lvt_http_header headers[LVT_HTTP_HEADERS_MAX];
    const char *text = transfer->header_text.data;
    size_t count = transfer->spans.len / sizeof(struct lvt_http_span);
    for (size_t i = 0; i < count; i++) {
        struct lvt_http_span span;
        memcpy(&span, transfer->spans.data + i * sizeof span, sizeof span);
        headers[i].name = lvt_bytes(text + span.name, span.name_len);
        headers[i].value = lvt_bytes(text + span.value, span.value_len);
    }
    long status = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    const struct lvt_http_response response = {
        .status = (int)status,
        .headers = headers,
        .header_count = count,
        .body = lvt_bytes(transfer->body.data, transfer->body.len),
    };
    transfer->done(transfer->ctx, &response, NULL);
}

/* ---- the request ---- */

static bool fail(struct lvt_transfer *transfer, const char *text) {
    snprintf(transfer->error, sizeof transfer->error, "%s", text);
    return false;
}

/* RFC 9110's token: what methods and header names are made of. */
static bool is_token(struct lvt_bytes text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (!isalnum(c) && (c == 0 || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return text.len > 0;
}

static bool has_control(struct lvt_bytes text) {
    for (size_t i = 0; i < text.len; i++)
        if (((unsigned char)text.data[i] < 32 && text.data[i] != '\t') || text.data[i] == 127)
            return true;
    return false;
}

static bool is_name(struct lvt_bytes name, const char *text) {
    return name.len == strlen(text) && strncasecmp(name.data, text, name.len) == 0;
}

static bool add_header(struct lvt_transfer *transfer, const char *line) {
    struct curl_slist *list = curl_slist_append(transfer->headers, line);
    if (!list)
        return fail(transfer, "out of memory");
    transfer->headers = list;
    return true;
}

static bool set_headers(struct lvt_transfer *transfer, const struct lvt_http_request *request) {
    bool typed = false;
    for (size_t i = 0; i < request->header_count; i++) {
        struct lvt_bytes name = request->headers[i].name, value = request->headers[i].value;
        if (!is_token(name))
            return fail(transfer, "a header's name has a character that is not allowed there");
        if (has_control(value))
            return fail(transfer, "a header's value has a line break or control character");
        if (is_name(name, "content-length") || is_name(name, "transfer-encoding"))
            return fail(transfer, "content-length and transfer-encoding follow from the body");
        if (name.len + value.len > LVT_HTTP_HEADERS_BYTES_MAX)
            return fail(transfer, "a header of more than 64 KiB");
        typed = typed || is_name(name, "content-type");
        char *line = NULL; /* curl wants "name;" for a header without a value */
        int len = value.len > 0 ? asprintf(&line, "%.*s: %.*s", (int)name.len, name.data,
                                           (int)value.len, value.data)
                                : asprintf(&line, "%.*s;", (int)name.len, name.data);
        if (len < 0)
            return fail(transfer, "out of memory");
        bool added = add_header(transfer, line);
        free(line);
        if (!added)
            return false;
    }
    /* curl would call the body a form, and wait for a "100 Continue" before a big one. */
    return (typed || add_header(transfer, "Content-Type:")) && add_header(transfer, "Expect:");
}

static bool set_body(struct lvt_transfer *transfer, const struct lvt_http_request *request) {
    CURL *easy = transfer->easy;
    char method[METHOD_BYTES_MAX + 1] = "GET";
    if (request->method.len > METHOD_BYTES_MAX ||
        (request->method.len > 0 && !is_token(request->method)))
        return fail(transfer, "not an HTTP method");
    if (request->method.len > 0) {
        memcpy(method, request->method.data, request->method.len);
        method[request->method.len] = 0;
    }
    lvt_buffer_append(&transfer->request_body, request->body.data, request->body.len);
    if (transfer->request_body.failed)
        return fail(transfer, "a body of more than 16 MiB");
    if (strcmp(method, "HEAD") == 0) {
        if (request->body.len > 0)
            return fail(transfer, "HEAD takes no body");
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        return true;
    }
    /* These announce a body even when it is empty. */
    bool bodied = strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
                  strcmp(method, "PATCH") == 0 || request->body.len > 0;
    if (bodied) {
        const char *body = transfer->request_body.data ? transfer->request_body.data : "";
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    }
    CURLcode code = curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
    return code == CURLE_OK || fail(transfer, curl_easy_strerror(code));
}

static bool set_url(struct lvt_transfer *transfer, struct lvt_bytes text) {
    if (text.len == 0)
        return fail(transfer, "no url");
    if (text.len > URL_BYTES_MAX || has_control(text))
        return fail(transfer, "a url with control characters, or of more than 16 KiB");
    char *url = strndup(text.data, text.len);
    if (!url)
        return fail(transfer, "out of memory");
    CURLcode code = curl_easy_setopt(transfer->easy, CURLOPT_URL, url);
    free(url);
    return code == CURLE_OK || fail(transfer, curl_easy_strerror(code));
}

static void set_connection(struct lvt_transfer *transfer, uint64_t timeout_ms) {
    CURL *easy = transfer->easy;
    if (timeout_ms == 0)
        timeout_ms = LVT_HTTP_TIMEOUT_MS;
    if (timeout_ms > INT32_MAX)
        timeout_ms = INT32_MAX;
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, lvt_http_socket_closing);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, transfer->http);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, READ_BUFFER_BYTES);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* closing does not wait for a name server */
#endif
}

bool lvt_transfer_prepare(struct lvt_transfer *transfer, const struct lvt_http_request *request) {
    CURL *easy = transfer->easy;
    set_connection(transfer, request->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    if (!set_url(transfer, request->url) || !set_headers(transfer, request) ||
        !set_body(transfer, request))
        return false;
    CURLcode code = curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
    return code == CURLE_OK || fail(transfer, curl_easy_strerror(code));
}
