/* One mail server, over libcurl. From any thread. */
#ifndef LEVERET_PLUGINS_EMAIL_SMTP_H
#define LEVERET_PLUGINS_EMAIL_SMTP_H

#include "common/failure.h"

struct lvt_smtp_settings {
    char *url;                 /* smtp://host:port, which asks for STARTTLS, or smtps://host:port */
    char *username, *password; /* NULL: without a login */
    char *ca_file;             /* NULL: the system's authorities */
    char *hello;               /* what this host calls itself; NULL: its name */
    bool plaintext;            /* smtp:// without TLS */
};

struct lvt_smtp;

/* The settings outlive it. Connects to nothing. */
bool lvt_smtp_new(const struct lvt_smtp_settings *settings, struct lvt_smtp **ret_smtp,
                  struct lvt_failure *failure);
/* NULL is fine. */
void lvt_smtp_free(struct lvt_smtp *smtp);

/* A transfer ends early when `wanted` returns false, which is asked at each step and once a second.
 */
struct lvt_smtp_mail {
    const char *from, *to;
    const char *message;
    size_t len;
    bool (*wanted)(void *ctx);
    void *ctx;
};

/* True when the server has taken it. Fails with LEVERET_REJECT when the server refuses it for good
 * (5xx), else with LEVERET_RETRY. */
bool lvt_smtp_send(struct lvt_smtp *smtp, const struct lvt_smtp_mail *mail,
                   struct lvt_failure *failure);

#endif
