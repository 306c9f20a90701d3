/* Calls of the system, of libcurl and of the crypto library that fail on purpose: preloaded, it stands before the real
 * ones. As a Lua module it is told which is to fail next, and how. */
#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

static char refused[32];   /* its name, "" for none */
static lua_Integer before; /* so many calls go well first */
static int error_number;

static bool is_refused(const char *name) {
  if (strcmp(refused, name) != 0 || before-- > 0) return false;
  refused[0] = '\0';
  errno = error_number;
  return true;
}

/* ISO C knows no way from an object to a function but through memory. */
#define NAMED(name, symbol) (*(__typeof__(&name) *)&(void *){dlsym(RTLD_NEXT, symbol)})
#define REAL(name) NAMED(name, #name)
/* Of calls that glibc has twice: with 64-bit offsets, its headers make the name mean the other one. */
#ifdef __USE_FILE_OFFSET64
#define REAL_WIDE(name) NAMED(name, #name "64")
#else
#define REAL_WIDE(name) REAL(name)
#endif

int epoll_create1(int flags) {
  return is_refused("epoll_create1") ? -1 : REAL(epoll_create1)(flags);
}

int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event) {
  return is_refused("epoll_ctl") ? -1 : REAL(epoll_ctl)(epoll, what, fd, event);
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int milliseconds) {
  return is_refused("epoll_wait") ? -1 : REAL(epoll_wait)(epoll, events, most, milliseconds);
}

int timerfd_create(int clock, int flags) {
  return is_refused("timerfd_create") ? -1 : REAL(timerfd_create)(clock, flags);
}

int eventfd(unsigned count, int flags) {
  return is_refused("eventfd") ? -1 : REAL(eventfd)(count, flags);
}

int pipe2(int ends[2], int flags) {
  return is_refused("pipe2") ? -1 : REAL(pipe2)(ends, flags);
}

pid_t fork(void) {
  return is_refused("fork") ? -1 : REAL(fork)();
}

/* Of those that glibc may have no function for. */
long syscall(long number, ...) {
  long arguments[6];
  va_list more;
  va_start(more, number);
  for (int i = 0; i < 6; i++) arguments[i] = va_arg(more, long);
  va_end(more);
  const char *name = number == SYS_close_range ? "close_range" : number == SYS_pidfd_open ? "pidfd_open" : "";
  if (is_refused(name)) return -1;
  return REAL(syscall)(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}

int fsync(int fd) {
  return is_refused("fsync") ? -1 : REAL(fsync)(fd);
}

/* With error 0: a part only. */
ssize_t write(int fd, const void *bytes, size_t count) {
  if (!is_refused("write")) return REAL(write)(fd, bytes, count);
  return error_number == 0 ? REAL(write)(fd, bytes, (count + 1) / 2) : -1;
}

/* Of directories only. */
int open(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  int mode = flags & O_CREAT ? va_arg(more, int) : 0;
  va_end(more);
  return (flags & O_DIRECTORY) != 0 && is_refused("open") ? -1 : REAL_WIDE(open)(path, flags, mode);
}

int statvfs(const char *path, struct statvfs *disk) {
  int result = REAL_WIDE(statvfs)(path, disk);
  if (is_refused("statvfs")) disk->f_bavail = (fsblkcnt_t)UINT64_MAX;
  return result;
}

EVP_MD_CTX *EVP_MD_CTX_new(void) {
  return is_refused("EVP_MD_CTX_new") ? NULL : REAL(EVP_MD_CTX_new)();
}

int EVP_DigestInit_ex(EVP_MD_CTX *digest, const EVP_MD *kind, ENGINE *engine) {
  return is_refused("EVP_DigestInit_ex") ? 0 : REAL(EVP_DigestInit_ex)(digest, kind, engine);
}

int EVP_DigestUpdate(EVP_MD_CTX *digest, const void *bytes, size_t count) {
  return is_refused("EVP_DigestUpdate") ? 0 : REAL(EVP_DigestUpdate)(digest, bytes, count);
}

int EVP_MD_CTX_copy_ex(EVP_MD_CTX *to, const EVP_MD_CTX *from) {
  return is_refused("EVP_MD_CTX_copy_ex") ? 0 : REAL(EVP_MD_CTX_copy_ex)(to, from);
}

int EVP_DigestFinal_ex(EVP_MD_CTX *digest, unsigned char *out, unsigned *length) {
  return is_refused("EVP_DigestFinal_ex") ? 0 : REAL(EVP_DigestFinal_ex)(digest, out, length);
}

/* Of the libcurl that is loaded: it is not among the libraries that all others see. */
#define CURLS(name) (*(__typeof__(&name) *)&(void *){dlsym(dlopen("libcurl.so.4", RTLD_LAZY | RTLD_NOLOAD), #name)})

CURLM *curl_multi_init(void) {
  return is_refused("curl_multi_init") ? NULL : CURLS(curl_multi_init)();
}

CURLMcode curl_multi_add_handle(CURLM *multi, CURL *easy) {
  return is_refused("curl_multi_add_handle") ? CURLM_OUT_OF_MEMORY : CURLS(curl_multi_add_handle)(multi, easy);
}

/* With ENOMEM there is none for another multi handle either. */
CURLMcode curl_multi_socket_action(CURLM *multi, curl_socket_t fd, int what, int *running) {
  if (!is_refused("curl_multi_socket_action")) return CURLS(curl_multi_socket_action)(multi, fd, what, running);
  if (error_number == ENOMEM) strcpy(refused, "curl_multi_init");
  return CURLM_OUT_OF_MEMORY;
}

/* What has ended, ends with libcurl's error of that number instead. */
CURLMsg *curl_multi_info_read(CURLM *multi, int *left) {
  CURLMsg *message = CURLS(curl_multi_info_read)(multi, left);
  if (message != NULL && is_refused("curl_multi_info_read")) message->data.result = (CURLcode)error_number;
  return message;
}

/* refuse(name, error, before): the call after `before` more of that name fails with that errno. */
static int refuse(lua_State *L) {
  strncpy(refused, luaL_checkstring(L, 1), sizeof refused - 1);
  error_number = (int)luaL_optinteger(L, 2, EIO);
  before = luaL_optinteger(L, 3, 0);
  return 0;
}

int luaopen_refuse(lua_State *L);

int luaopen_refuse(lua_State *L) {
  lua_pushcfunction(L, refuse);
  return 1;
}
