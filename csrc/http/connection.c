/* A restart of the server ends the connection of each client's last exchange. When the client's next exchange has
 * ended, that connection was closed at our side, too, and looked at; or it is idle, and is looked at now, for curl need
 * not have noticed; or another exchange was in flight on it, and curl heard of its end before it heard of the new
 * server's answer. So the next exchange finds it counted.
 *
 * An end counts only
 *
 * - if an exchange has had an answer on the connection;
 * - if the server has not said that it closes it;
 * - if the server has ended it. What we end is still open at the other side then: where an exchange is cancelled or has
 *   timed out, or where there are too many connections;
 * - if it was in use shortly before. Servers and proxies end idle connections: ThingsBoard does over HTTP/2 after 20 s.
 *   A device whose last exchange is so long ago does not trust the server anyway: see thingsboard.outbox.chain. */
#include "http/connection.h"

#include "base/clock.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  UNACKNOWLEDGED_MILLISECONDS = 20000, /* see options.c */
  IDLE_SECONDS = 15,
  AT_ONCE = 64, /* by so many connections the table grows */
};

static struct tb_connection *find(const struct tb_poller *poller, curl_socket_t socket) {
  return (size_t)socket < poller->connection_count ? &poller->connections[socket] : NULL;
}

/* When memory has run out, the connection is not in the table. */
static void add(struct tb_poller *poller, curl_socket_t socket) {
  size_t count = (size_t)socket + AT_ONCE;
  if ((size_t)socket >= poller->connection_count && count <= SIZE_MAX / sizeof *poller->connections) {
    struct tb_connection *connections = realloc(poller->connections, count * sizeof *connections);
    if (connections == NULL) return;
    for (size_t i = poller->connection_count; i < count; i++) connections[i] = (struct tb_connection){0};
    poller->connections = connections;
    poller->connection_count = count;
  }
  struct tb_connection *connection = find(poller, socket);
  if (connection != NULL) *connection = (struct tb_connection){.counts = true};
}

/* Child processes do not inherit the socket: a connection would outlive this process as long as they live. Where the
 * system has no TCP_USER_TIMEOUT, a dead connection is noticed a little later. */
static curl_socket_t open_socket(void *poller, curlsocktype purpose, struct curl_sockaddr *address) {
  (void)purpose;
  int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  if (fd < 0) return CURL_SOCKET_BAD;
#ifdef TCP_USER_TIMEOUT
  unsigned int milliseconds = UNACKNOWLEDGED_MILLISECONDS;
  setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds);
#endif
  add(poller, fd);
  return fd;
}

static int close_socket(void *poller, curl_socket_t socket) {
  tb_connection_end(poller, socket);
  return close(socket);
}

void tb_connection_configure(CURL *easy, struct tb_poller *poller) {
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, (void *)poller);
  curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
  curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, (void *)poller);
}

/* The connection's own port; 0 when it has none yet. */
static long port_of(struct tb_connection *connection, curl_socket_t socket) {
  struct sockaddr_in6 address = {0}; /* an IPv4 address has its port at the same place */
  socklen_t size = sizeof address;
  if (connection->port == 0 && getsockname(socket, (struct sockaddr *)&address, &size) == 0)
    connection->port = ntohs(address.sin6_port);
  return connection->port;
}

/* curl tells at any time which port the connection has. Its socket it tells only when the connection is idle, after a
 * long search; and it does not call on_socket when an answer is there at once. */
curl_socket_t tb_connection_of(CURL *easy, struct tb_poller *poller, curl_socket_t likely) {
  long port = 0;
  curl_easy_getinfo(easy, CURLINFO_LOCAL_PORT, &port);
  if (port <= 0) return CURL_SOCKET_BAD;
  curl_socket_t count = (curl_socket_t)poller->connection_count;
  for (curl_socket_t i = -1; i < count; i++) {
    curl_socket_t socket = i < 0 ? likely : i;
    struct tb_connection *connection = find(poller, socket);
    if (connection != NULL && connection->counts && port_of(connection, socket) == port) return socket;
  }
  return CURL_SOCKET_BAD;
}

void tb_connection_set_in_use(struct tb_poller *poller, curl_socket_t socket, bool in_use) {
  struct tb_connection *connection = find(poller, socket);
  if (connection == NULL) return;
  connection->in_use = in_use;
  if (!in_use && connection->used_at != 0) connection->used_at = tb_monotonic();
}

void tb_connection_answered(struct tb_poller *poller, curl_socket_t socket) {
  struct tb_connection *connection = find(poller, socket);
  if (connection != NULL) connection->used_at = tb_monotonic();
}

void tb_connection_expect_end(struct tb_poller *poller, curl_socket_t socket) {
  struct tb_connection *connection = find(poller, socket);
  if (connection != NULL) connection->counts = false;
}

static bool was_used_lately(const struct tb_connection *connection) {
  return connection->used_at != 0 && tb_monotonic() - connection->used_at < IDLE_SECONDS * TB_SECOND;
}

/* Whether the server has ended its side. */
static bool has_ended(curl_socket_t socket) {
  struct pollfd one = {.fd = socket, .events = POLLRDHUP};
  return poll(&one, 1, 0) > 0;
}

void tb_connection_check(struct tb_poller *poller, curl_socket_t socket) {
  struct tb_connection *connection = find(poller, socket);
  if (connection == NULL || !connection->counts || connection->in_use) return;
  if (!was_used_lately(connection) || !has_ended(socket)) return;
  connection->counts = false;
  poller->lost_connections++;
}

void tb_connection_end(struct tb_poller *poller, curl_socket_t socket) {
  struct tb_connection *connection = find(poller, socket);
  if (connection == NULL) { /* nothing is known of it */
    if (has_ended(socket)) poller->lost_connections++;
    return;
  }
  connection->in_use = false;
  tb_connection_check(poller, socket);
  connection->counts = false;
}
