#include "http/curl_error.h"

#include <curl/curl.h>
#include <stddef.h>
#include <string.h>

/* Older releases of libcurl do not name these; the one that is loaded may be newer, and return them. */
#if LIBCURL_VERSION_NUM < 0x075400
#define CURLE_UNRECOVERABLE_POLL 99
#endif
#if LIBCURL_VERSION_NUM < 0x080600
#define CURLE_TOO_LARGE 100
#endif

/* The names and texts are here because libcurl can be built without them. The list has the codes that HTTP, HTTPS and
 * proxies can cause. */
#define ERRORS(X)                                                                                                      \
  X(UNSUPPORTED_PROTOCOL, "this protocol, of the URL or of the answer, is not known")                                  \
  X(FAILED_INIT, "libcurl cannot be initialised")                                                                      \
  X(URL_MALFORMAT, "the URL makes no sense")                                                                           \
  X(NOT_BUILT_IN, "this libcurl was built without what is needed")                                                     \
  X(COULDNT_RESOLVE_PROXY, "cannot resolve the proxy's name")                                                          \
  X(COULDNT_RESOLVE_HOST, "cannot resolve the host's name")                                                            \
  X(COULDNT_CONNECT, "cannot connect")                                                                                 \
  X(WEIRD_SERVER_REPLY, "the answer is not HTTP")                                                                      \
  X(HTTP2, "the answer breaks the rules of HTTP/2")                                                                    \
  X(PARTIAL_FILE, "the connection ended within the answer")                                                            \
  X(WRITE_ERROR, "the answer could not be stored")                                                                     \
  X(READ_ERROR, "the request could not be read")                                                                       \
  X(OUT_OF_MEMORY, "not enough memory")                                                                                \
  X(OPERATION_TIMEDOUT, "timed out")                                                                                   \
  X(RANGE_ERROR, "the server has no ranges of bytes")                                                                  \
  X(SSL_CONNECT_ERROR, "the TLS handshake failed")                                                                     \
  X(BAD_FUNCTION_ARGUMENT, "the answer's headers make no sense")                                                       \
  X(INTERFACE_FAILED, "cannot use the network interface")                                                              \
  X(GOT_NOTHING, "the connection ended before the answer")                                                             \
  X(SSL_ENGINE_NOTFOUND, "the TLS library does not find the engine of the key")                                        \
  X(SSL_ENGINE_SETFAILED, "the TLS library cannot use the engine of the key")                                          \
  X(SEND_ERROR, "the connection broke while the request was sent")                                                     \
  X(RECV_ERROR, "the connection broke before the end of the answer")                                                   \
  X(SSL_CERTPROBLEM, "cannot use the client's certificate or its key")                                                 \
  X(SSL_CIPHER, "cannot use the TLS ciphers")                                                                          \
  X(PEER_FAILED_VERIFICATION, "the server's certificate is not trusted")                                               \
  X(BAD_CONTENT_ENCODING, "the answer has an encoding that is not known")                                              \
  X(FILESIZE_EXCEEDED, "the answer announces more bytes than can be counted")                                          \
  X(SSL_ENGINE_INITFAILED, "the TLS library cannot start the engine of the key")                                       \
  X(SSL_CACERT_BADFILE, "cannot read the file of authorities")                                                         \
  X(SSL_SHUTDOWN_FAILED, "TLS was not shut down as it should be")                                                      \
  X(AGAIN, "the socket was not ready")                                                                                 \
  X(NO_CONNECTION_AVAILABLE, "no connection is free")                                                                  \
  X(SSL_PINNEDPUBKEYNOTMATCH, "the server's public key is not the pinned one")                                         \
  X(HTTP2_STREAM, "the server ended the HTTP/2 stream")                                                                \
  X(AUTH_ERROR, "the authentication with the proxy failed")                                                            \
  X(PROXY, "the proxy refused")                                                                                        \
  X(SSL_CLIENTCERT, "the server demands a client certificate")                                                         \
  X(UNRECOVERABLE_POLL, "cannot wait for a socket")                                                                    \
  X(TOO_LARGE, "something is larger than libcurl takes")

/* Arrays instead of pointers: each pointer would add a relocation of 24 bytes to the module. */
static const struct errors {
#define X(name, text) char name[sizeof #name "\0" text];
  ERRORS(X)
#undef X
} errors = {
#define X(name, text) #name "\0" text,
    ERRORS(X)
#undef X
};

static const struct {
  unsigned char code;
  unsigned short offset;
} places[] = {
#define X(name, text) {CURLE_##name, offsetof(struct errors, name)},
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
