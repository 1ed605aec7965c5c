#include "email/smtp.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_MS 15000
/* Idle connections that are kept; more threads than the host's pool has there never are. */
#define IDLE_MAX 64
#define REPLY_MAX 256

struct lvt_smtp {
    const struct lvt_smtp_settings *settings;
    char *url; /* with what this host calls itself */
    pthread_mutex_t lock;
    /* Each keeps its connection for the next mail. */
    CURL *idle[IDLE_MAX];
    size_t idle_count;
};

/* One mail under way. */
struct transfer {
    const struct lvt_smtp_mail *mail;
    size_t sent;
    char refusal[REPLY_MAX]; /* the server's last line that was one */
};

static bool fail_settings(struct lvt_failure *failure, const char *text) {
    return lvt_failed(failure, LEVERET_REJECT, "%s", text);
}

static bool has(CURLU *parts, CURLUPart part) {
    char *text = NULL;
    bool there = curl_url_get(parts, part, &text, 0) == CURLUE_OK && strcmp(text, "/") != 0;
    curl_free(text);
    return there;
}

static bool check_url(const struct lvt_smtp_settings *settings, CURLU *parts,
                      struct lvt_failure *failure) {
    char *scheme = NULL;
    if (curl_url_set(parts, CURLUPART_URL, settings->url, 0) != CURLUE_OK ||
        curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK)
        return fail_settings(failure, "url is none; it must be smtp://host:port, or smtps://");
    bool implicit = strcmp(scheme, "smtps") == 0, known = implicit || strcmp(scheme, "smtp") == 0;
    curl_free(scheme);
    if (!known)
        return fail_settings(failure, "url must begin with smtp:// or smtps://");
    if (has(parts, CURLUPART_USER) || has(parts, CURLUPART_PASSWORD) || has(parts, CURLUPART_PATH))
        return fail_settings(failure,
                             "url must be nothing but smtp://host:port or smtps://; there "
                             "are keys for username, password and hello");
    if (implicit && settings->plaintext)
        return fail_settings(failure, "plaintext does not go with smtps://");
    if (settings->plaintext && settings->password)
        return fail_settings(failure, "a password is not sent without TLS: drop plaintext");
    return true;
}

bool lvt_smtp_new(const struct lvt_smtp_settings *settings, struct lvt_smtp **ret_smtp,
                  struct lvt_failure *failure) {
    CURLU *parts = curl_url();
    struct lvt_smtp *smtp = calloc(1, sizeof *smtp);
    char *path = NULL;
    bool done = false;
    if (!parts || !smtp) {
        lvt_failed_memory(failure);
        goto out;
    }
    if (!check_url(settings, parts, failure))
        goto out;
    if (settings->hello && (asprintf(&path, "/%s", settings->hello) < 0 ||
                            curl_url_set(parts, CURLUPART_PATH, path, 0) != CURLUE_OK)) {
        fail_settings(failure, "hello is no name of a host");
        goto out;
    }
    if (curl_url_get(parts, CURLUPART_URL, &smtp->url, 0) != CURLUE_OK ||
        curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        lvt_failed_memory(failure);
        goto out;
    }
    pthread_mutex_init(&smtp->lock, NULL);
    smtp->settings = settings;
    *ret_smtp = smtp;
    done = true;
out:
    curl_url_cleanup(parts);
    free(path);
    if (!done && smtp)
        curl_free(smtp->url);
    if (!done)
        free(smtp);
    return done;
}

void lvt_smtp_free(struct lvt_smtp *smtp) {
    if (!smtp)
        return;
    for (size_t i = 0; i < smtp->idle_count; i++)
        curl_easy_cleanup(smtp->idle[i]);
    pthread_mutex_destroy(&smtp->lock);
    curl_free(smtp->url);
    free(smtp);
    curl_global_cleanup();
}

static CURL *take(struct lvt_smtp *smtp) {
    CURL *curl = NULL;
    pthread_mutex_lock(&smtp->lock);
    if (smtp->idle_count > 0)
        curl = smtp->idle[--smtp->idle_count];
    pthread_mutex_unlock(&smtp->lock);
    return curl ? curl : curl_easy_init();
}

static void give_back(struct lvt_smtp *smtp, CURL *curl) {
    curl_easy_reset(curl);
    pthread_mutex_lock(&smtp->lock);
    if (smtp->idle_count < IDLE_MAX) {
        smtp->idle[smtp->idle_count++] = curl;
        curl = NULL;
    }
    pthread_mutex_unlock(&smtp->lock);
    curl_easy_cleanup(curl);
}

/* ---- libcurl's callbacks ---- */

static size_t read_message(char *buffer, size_t size, size_t count, void *ctx) {
    struct transfer *transfer = ctx;
    size_t len = transfer->mail->len - transfer->sent;
    if (len > size * count)
        len = size * count;
    memcpy(buffer, transfer->mail->message + transfer->sent, len);
    transfer->sent += len;
    return len;
}

/* The server's lines. */
static size_t read_reply(char *line, size_t size, size_t count, void *ctx) {
    struct transfer *transfer = ctx;
    size_t len = size * count, kept = 0;
    if (len == 0 || (line[0] != '4' && line[0] != '5'))
        return len;
    for (size_t i = 0; i < len && kept < REPLY_MAX - 1; i++)
        if ((unsigned char)line[i] >= ' ')
            transfer->refusal[kept++] = line[i];
    transfer->refusal[kept] = '\0';
    return len;
}

static size_t drop(char *data, size_t size, size_t count, void *ctx) {
    (void)data, (void)ctx;
    return size * count;
}

static int is_unwanted(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up) {
    struct transfer *transfer = ctx;
    (void)down_total, (void)down, (void)up_total, (void)up;
    return !transfer->mail->wanted(transfer->mail->ctx);
}

/* ---- sending ---- */

static bool set_options(CURL *curl, const struct lvt_smtp *smtp, struct transfer *transfer,
                        struct curl_slist *recipients, char *error) {
    const struct lvt_smtp_settings *settings = smtp->settings;
    long tls = settings->plaintext ? CURLUSESSL_NONE : CURLUSESSL_ALL;
    bool set = true;
#define SET(option, value) set = set && curl_easy_setopt(curl, option, value) == CURLE_OK
    SET(CURLOPT_URL, smtp->url);
    SET(CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    SET(CURLOPT_PROXY, ""); /* whatever the environment says */
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    SET(CURLOPT_USE_SSL, tls);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    if (settings->ca_file)
        SET(CURLOPT_CAINFO, settings->ca_file);
    if (settings->username)
        SET(CURLOPT_USERNAME, settings->username);
    if (settings->password)
        SET(CURLOPT_PASSWORD, settings->password);
    SET(CURLOPT_MAIL_FROM, transfer->mail->from);
    SET(CURLOPT_MAIL_RCPT, recipients);
    SET(CURLOPT_UPLOAD, 1L);
    SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)transfer->mail->len);
    SET(CURLOPT_READFUNCTION, read_message);
    SET(CURLOPT_READDATA, transfer);
    SET(CURLOPT_HEADERFUNCTION, read_reply);
    SET(CURLOPT_HEADERDATA, transfer);
    SET(CURLOPT_WRITEFUNCTION, drop);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_XFERINFOFUNCTION, is_unwanted);
    SET(CURLOPT_XFERINFODATA, transfer);
    SET(CURLOPT_ERRORBUFFER, error);
#undef SET
    return set;
}

/* RFC 4954's replies to a login, or to the lack of one, and RFC 3207's to the lack of TLS. */
static bool is_of_login(long reply) {
    return reply == 530 || reply == 534 || reply == 535 || reply == 538;
}

/* What the server says of a login or of TLS is no fault of the mail's. */
static bool explain(CURL *curl, CURLcode code, const struct transfer *transfer, const char *error,
                    struct lvt_failure *failure) {
    long reply = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply);
    bool ours = code == CURLE_LOGIN_DENIED || code == CURLE_USE_SSL_FAILED || is_of_login(reply);
    if (!ours && reply >= 400 && reply <= 599 && transfer->refusal[0])
        return lvt_failed(failure, reply >= 500 ? LEVERET_REJECT : LEVERET_RETRY,
                          "the mail server refuses it: %s", transfer->refusal);
    return lvt_failed(failure, LEVERET_RETRY, "the mail server: %s%s%s",
                      error[0] ? error : curl_easy_strerror(code), transfer->refusal[0] ? ": " : "",
                      transfer->refusal);
}

bool lvt_smtp_send(struct lvt_smtp *smtp, const struct lvt_smtp_mail *mail,
                   struct lvt_failure *failure) {
    char error[CURL_ERROR_SIZE] = "";
    struct transfer transfer = {.mail = mail};
    CURL *curl = take(smtp);
    struct curl_slist *recipients = curl_slist_append(NULL, mail->to);
    bool done = false;
    if (!curl || !recipients || !set_options(curl, smtp, &transfer, recipients, error)) {
        lvt_failed_memory(failure);
    } else {
        CURLcode code = curl_easy_perform(curl);
        done = code == CURLE_OK || explain(curl, code, &transfer, error, failure);
    }
    if (curl)
        give_back(smtp, curl);
    curl_slist_free_all(recipients);
    return done;
}
