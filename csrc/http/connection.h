/* Connections, and which of them are lost: the server has ended them without having said that it would. That is a sign
 * that it was restarted. */
#ifndef TB_CONNECTION_H
#define TB_CONNECTION_H

#include "http/poller.h"

#include <curl/curl.h>
#include <stdbool.h>

/* Lets the poller know which sockets curl opens and closes for the easy handle. */
void tb_connection_configure(CURL *easy, struct tb_poller *poller);

/* The socket of the easy handle's connection; CURL_SOCKET_BAD when that is closed. `likely` is tried first. */
curl_socket_t tb_connection_of(CURL *easy, struct tb_poller *poller, curl_socket_t likely);

/* Whether exchanges are in flight on the connection. */
void tb_connection_set_in_use(struct tb_poller *poller, curl_socket_t socket, bool in_use);

/* An exchange on the connection has ended, and has had its answer. */
void tb_connection_answered(struct tb_poller *poller, curl_socket_t socket);

/* The server has said that it closes the connection, whose end does not count then. */
void tb_connection_expect_end(struct tb_poller *poller, curl_socket_t socket);

/* Counts the connection if it is lost by now. One that is in use is curl's to look at. */
void tb_connection_check(struct tb_poller *poller, curl_socket_t socket);

/* curl closes the connection, or begins to: counts it if it is lost. */
void tb_connection_end(struct tb_poller *poller, curl_socket_t socket);

#endif
