/* Options of sockets, by their descriptors: Lua has none of this. */
#include <lauxlib.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

/* option(fd, name): a number; nil where the descriptor is no socket over TCP that is connected. */
static int option(lua_State *L) {
  static const char *const names[] = {"keepalive", "keepidle", "keepintvl", "user_timeout", "nodelay", NULL};
  static const int levels[] = {SOL_SOCKET, IPPROTO_TCP, IPPROTO_TCP, IPPROTO_TCP, IPPROTO_TCP};
  static const int options[] = {SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_USER_TIMEOUT, TCP_NODELAY};
  int fd = (int)luaL_checkinteger(L, 1), which = luaL_checkoption(L, 2, NULL, names), value = 0;
  struct sockaddr_storage peer;
  socklen_t size = sizeof peer;
  if (getpeername(fd, (struct sockaddr *)&peer, &size) != 0 || peer.ss_family == AF_UNIX) return 0;
  size = sizeof value;
  if (getsockopt(fd, levels[which], options[which], &value, &size) != 0) return 0;
  lua_pushinteger(L, value);
  return 1;
}

int luaopen_sockets(lua_State *L);

int luaopen_sockets(lua_State *L) {
  lua_pushcfunction(L, option);
  return 1;
}
