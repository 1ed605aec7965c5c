/* amqp://user:password@host:port/vhost, taken apart. */
#ifndef LEVERET_BROKER_URL_H
#define LEVERET_BROKER_URL_H

#include <stdbool.h>

#include "base/error.h"

struct lvt_amqp_url {
    bool tls;
    int port;
    char *host, *user, *password, *vhost;
};

/* The texts of errors never quote the URL, which has a password in it. */
enum leveret_code lvt_amqp_url_parse(const char *url, struct lvt_amqp_url *ret,
                                     struct leveret_error *err) LVT_MUST_CHECK;
void lvt_amqp_url_free(struct lvt_amqp_url *url);

#endif
