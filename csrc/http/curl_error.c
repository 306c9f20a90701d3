#include "http/curl_error.h"

#include <stddef.h>
#include <string.h>

/* The names and texts are here because libcurl can be built without them. The list has the codes that HTTP, HTTPS and
 * proxies can cause, by number: libcurl never changes the numbers, but an older release may not define all names. */
#define ERRORS(X)                                                                                                      \
  X(1, UNSUPPORTED_PROTOCOL, "this protocol, of the URL or of the answer, is not known")                               \
  X(2, FAILED_INIT, "libcurl cannot be initialised")                                                                   \
  X(3, URL_MALFORMAT, "the URL makes no sense")                                                                        \
  X(4, NOT_BUILT_IN, "this libcurl was built without what is needed")                                                  \
  X(5, COULDNT_RESOLVE_PROXY, "cannot resolve the proxy's name")                                                       \
  X(6, COULDNT_RESOLVE_HOST, "cannot resolve the host's name")                                                         \
  X(7, COULDNT_CONNECT, "cannot connect")                                                                              \
  X(8, WEIRD_SERVER_REPLY, "the answer is not HTTP")                                                                   \
  X(16, HTTP2, "the answer breaks the rules of HTTP/2")                                                                \
  X(18, PARTIAL_FILE, "the connection ended within the answer")                                                        \
  X(23, WRITE_ERROR, "the answer could not be stored")                                                                 \
  X(26, READ_ERROR, "the request could not be read")                                                                   \
  X(27, OUT_OF_MEMORY, "not enough memory")                                                                            \
  X(28, OPERATION_TIMEDOUT, "timed out")                                                                               \
  X(33, RANGE_ERROR, "the server has no ranges of bytes")                                                              \
  X(35, SSL_CONNECT_ERROR, "the TLS handshake failed")                                                                 \
  X(43, BAD_FUNCTION_ARGUMENT, "the answer's headers make no sense")                                                   \
  X(45, INTERFACE_FAILED, "cannot use the network interface")                                                          \
  X(52, GOT_NOTHING, "the connection ended before the answer")                                                         \
  X(53, SSL_ENGINE_NOTFOUND, "the TLS library does not find the engine of the key")                                    \
  X(54, SSL_ENGINE_SETFAILED, "the TLS library cannot use the engine of the key")                                      \
  X(55, SEND_ERROR, "the connection broke while the request was sent")                                                 \
  X(56, RECV_ERROR, "the connection broke before the end of the answer")                                               \
  X(58, SSL_CERTPROBLEM, "cannot use the client's certificate or its key")                                             \
  X(59, SSL_CIPHER, "cannot use the TLS ciphers")                                                                      \
  X(60, PEER_FAILED_VERIFICATION, "the server's certificate is not trusted")                                           \
  X(61, BAD_CONTENT_ENCODING, "the answer has an encoding that is not known")                                          \
  X(63, FILESIZE_EXCEEDED, "the answer announces more bytes than can be counted")                                      \
  X(66, SSL_ENGINE_INITFAILED, "the TLS library cannot start the engine of the key")                                   \
  X(77, SSL_CACERT_BADFILE, "cannot read the file of authorities")                                                     \
  X(80, SSL_SHUTDOWN_FAILED, "TLS was not shut down as it should be")                                                  \
  X(81, AGAIN, "the socket was not ready")                                                                             \
  X(89, NO_CONNECTION_AVAILABLE, "no connection is free")                                                              \
  X(90, SSL_PINNEDPUBKEYNOTMATCH, "the server's public key is not the pinned one")                                     \
  X(92, HTTP2_STREAM, "the server ended the HTTP/2 stream")                                                            \
  X(94, AUTH_ERROR, "the authentication with the proxy failed")                                                        \
  X(97, PROXY, "the proxy refused")                                                                                    \
  X(98, SSL_CLIENTCERT, "the server demands a client certificate")                                                     \
  X(99, UNRECOVERABLE_POLL, "cannot wait for a socket")                                                                \
  X(100, TOO_LARGE, "something is larger than libcurl takes")

/* Arrays instead of pointers: each pointer would add a relocation of 24 bytes to the module. */
static const struct errors {
#define X(code, name, text) char name[sizeof #name "\0" text];
  ERRORS(X)
#undef X
} errors = {
#define X(code, name, text) #name "\0" text,
    ERRORS(X)
#undef X
};

static const struct {
  unsigned char code;
  unsigned short offset;
} places[] = {
#define X(code, name, text) {code, offsetof(struct errors, name)},
    ERRORS(X)
#undef X
};

const char *tb_curl_error_name(int code) {
  for (size_t i = 0; i < sizeof places / sizeof *places; i++)
    if (places[i].code == code) return (const char *)&errors + places[i].offset;
  return NULL;
}

const char *tb_curl_error_text(int code) {
  const char *name = tb_curl_error_name(code);
  return name == NULL ? "libcurl failed" : strchr(name, '\0') + 1;
}
