#include "broker/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <unistd.h>

static const char *system_ca_file(void) {
    static const char *const files[] = {"/etc/ssl/certs/ca-certificates.crt",
                                        "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (access(files[i], R_OK) == 0) {
            return files[i];
        }
    }
    return NULL;
}

void lvt_tls_begin(void) {
    (void)OPENSSL_init_ssl(0, NULL); /* what fails now fails again, and is told, with a peer */
}

/* ---- what is wrong with the peer ---- */

/* The library says only that a certificate was refused, so its reason is noted where it is known.
 */
static int verified(int good, X509_STORE_CTX *store) {
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    int *problem = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    if (!good && problem) {
        *problem = X509_STORE_CTX_get_error(store);
    }
    return good;
}

static enum leveret_code refuse(const struct lvt_amqp_url *url, const char *what,
                                struct leveret_error *err) {
    return leveret_fail(err, LEVERET_CONFIG, "the certificate of RabbitMQ at %s:%d %s", url->host,
                        url->port, what);
}

static enum leveret_code certificate_refused(const struct lvt_amqp_url *url, int problem,
                                             struct leveret_error *err) {
    char other[200];
    switch (problem) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return refuse(url, "has expired; give RabbitMQ a new one, or set this machine's clock",
                      err);
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return refuse(url, "is not valid yet; is this machine's clock right?", err);
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return refuse(url,
                      "is signed by itself and cannot be trusted; if it is the right one, name its "
                      "file in rabbitmq.ca_file",
                      err);
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return refuse(
            url, "cannot be trusted; name the authority that signed it in rabbitmq.ca_file", err);
    default:
        snprintf(other, sizeof other, "cannot be trusted: %s",
                 X509_verify_cert_error_string(problem));
        return refuse(url, other, err);
    }
}

static enum leveret_code handshake_failed(const struct lvt_amqp_url *url,
                                          struct leveret_error *err) {
    unsigned long error = ERR_peek_last_error();
    const char *reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_reason_error_string(error) : NULL;
    switch (ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0) {
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
        return leveret_fail(err, LEVERET_CONFIG,
                            "RabbitMQ at %s:%d does not offer TLS 1.2 or newer, and older versions "
                            "are not safe; allow it in RabbitMQ's ssl_options.versions",
                            url->host, url->port);
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
        return leveret_fail(err, LEVERET_UNAVAILABLE,
                            "RabbitMQ at %s:%d ended the TLS handshake (%s); does it want a "
                            "certificate of its clients (ssl_options.fail_if_no_peer_cert)?",
                            url->host, url->port, reason);
    default:
        return leveret_fail(err, LEVERET_UNAVAILABLE,
                            "the TLS handshake with RabbitMQ at %s:%d failed%s%s; is it a TLS "
                            "port?",
                            url->host, url->port, reason ? ": " : "", reason ? reason : "");
    }
}

static enum leveret_code failed(const struct lvt_amqp_url *url, int status, int problem,
                                struct leveret_error *err) {
    if (problem != X509_V_OK) {
        return certificate_refused(url, problem, err);
    }
    switch (status) {
    case AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED:
        return refuse(url, "is for another host name; use the name that it is for in rabbitmq.url",
                      err);
    case AMQP_STATUS_SSL_PEER_VERIFY_FAILED:
        return certificate_refused(url, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, err);
    case AMQP_STATUS_SSL_CONNECTION_FAILED:
        return handshake_failed(url, err);
    case AMQP_STATUS_HOSTNAME_RESOLUTION_FAILED:
        return leveret_fail(err, LEVERET_UNAVAILABLE,
                            "cannot resolve RabbitMQ's host name \"%s\"; check rabbitmq.url "
                            "(RABBITMQ_URL)",
                            url->host);
    default:
        return leveret_fail(err, LEVERET_UNAVAILABLE,
                            "cannot reach RabbitMQ at %s:%d over TLS: %s; is it running there? "
                            "(rabbitmq.url, RABBITMQ_URL)",
                            url->host, url->port, amqp_error_string2(status));
    }
}

/* ---- connecting ---- */

enum leveret_code lvt_tls_connect(amqp_connection_state_t amqp, const struct lvt_amqp_url *url,
                                  const char *ca_file, uint64_t timeout_ms,
                                  struct leveret_error *err) {
    amqp_socket_t *socket = amqp_ssl_socket_new(amqp);
    if (!socket) {
        return leveret_fail(err, LEVERET_NO_MEMORY, "cannot set up TLS");
    }
    ca_file = ca_file ? ca_file : system_ca_file();
    if (!ca_file || amqp_ssl_socket_set_cacert(socket, ca_file) != AMQP_STATUS_OK) {
        return leveret_fail(err, LEVERET_CONFIG,
                            "cannot read certificates from %s; set rabbitmq.ca_file to a file of "
                            "certificates in PEM form",
                            ca_file ? ca_file : "the system's usual places");
    }
    /* The library's own setting of versions ends at 1.2. The host name is its to verify, which it
     * does unless told not to. */
    SSL_CTX *context = amqp_ssl_socket_get_context(socket);
    if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) {
        return leveret_fail(err, LEVERET_SYSTEM, "the TLS library does not know TLS 1.2");
    }
    int problem = X509_V_OK;
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, verified);
    SSL_CTX_set_app_data(context, &problem);
    struct timeval timeout = {.tv_sec = (time_t)(timeout_ms / 1000),
                              .tv_usec = (long)(timeout_ms % 1000) * 1000};
    ERR_clear_error();
    int status = amqp_socket_open_noblock(socket, url->host, url->port, &timeout);
    SSL_CTX_set_app_data(context, NULL);
    return status == AMQP_STATUS_OK ? LEVERET_OK : failed(url, status, problem, err);
}
