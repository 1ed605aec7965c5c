/* HTTP/1.1 around the API, in threads of its own. */
#ifndef SERVER_H
#define SERVER_H

#include <stdint.h>

#include "api.h"

struct server;

/* Listens on HOST:PORT, where the host is a number ("127.0.0.1", "[::1]", "0.0.0.0"). NULL with a
 * text when that is not possible. */
struct server *server_start(const char *listen, const struct store *store, struct events *events,
                            char problem[200]);
/* "http://127.0.0.1:8080", with the port that was got for port 0. */
const char *server_url(const struct server *server);
/* Takes no more connections, gives the requests under way `wait_ms` to end, and ends. */
void server_stop(struct server *server, uint64_t wait_ms);

#endif
