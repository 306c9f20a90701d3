#include "process/file.h"

#include "process/poller.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { READ_AT_ONCE = 65536 };

static int failure(lua_State *L, const char *path) {
  int error = errno;
  lua_pushnil(L);
  lua_pushfstring(L, "%s: %s", path, strerror(error));
  lua_pushinteger(L, error);
  return 3;
}

/*** What a file is.
@function stat
@tparam string path
@tparam ?boolean itself of a symbolic link tell that it is `"other"`; without it links are followed
@treturn[1] table `type` (`"file"`, `"directory"` or `"other"`), `mode` (the permission bits), `uid`, `size` (bytes),
`changed` (a text that differs once the file has been written or replaced)
@treturn[2] nil
@treturn[2] string what is wrong, with the path
@treturn[2] integer errno */
static int file_stat(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct stat about;
  int failed = lua_toboolean(L, 2) ? lstat(path, &about) : stat(path, &about);
  if (failed != 0) return failure(L, path);
  lua_createtable(L, 0, 5);
  lua_pushstring(L, S_ISREG(about.st_mode) ? "file" : S_ISDIR(about.st_mode) ? "directory" : "other");
  lua_setfield(L, -2, "type");
  lua_pushinteger(L, (lua_Integer)(about.st_mode & 07777));
  lua_setfield(L, -2, "mode");
  lua_pushinteger(L, (lua_Integer)about.st_uid);
  lua_setfield(L, -2, "uid");
  lua_pushinteger(L, (lua_Integer)about.st_size);
  lua_setfield(L, -2, "size");
  lua_pushfstring(L, "%I %I.%I %I", (LUAI_UACINT)about.st_ino, (LUAI_UACINT)about.st_mtim.tv_sec,
                  (LUAI_UACINT)about.st_mtim.tv_nsec, (LUAI_UACINT)about.st_size);
  lua_setfield(L, -2, "changed");
  return 1;
}

/*** The names in a folder, in no order, `.` and `..` left out.
@function list
@tparam string path
@treturn[1] table
@treturn[2] nil
@treturn[2] string what is wrong, with the path
@treturn[2] integer errno */
static int file_list(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  DIR **folder = lua_newuserdatauv(L, sizeof(DIR *), 0); /* closed by the type's finalizer if memory runs out */
  *folder = NULL;
  luaL_setmetatable(L, "thingsboard.folder");
  *folder = opendir(path);
  if (*folder == NULL) return failure(L, path);
  lua_newtable(L);
  lua_Integer count = 0;
  const struct dirent *entry;
  while ((entry = readdir(*folder)) != NULL) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    lua_pushstring(L, entry->d_name);
    lua_rawseti(L, -2, ++count);
  }
  closedir(*folder);
  *folder = NULL;
  return 1;
}

static int folder_close(lua_State *L) {
  DIR **folder = luaL_checkudata(L, 1, "thingsboard.folder");
  if (*folder != NULL) closedir(*folder);
  *folder = NULL;
  return 0;
}

static void push_bytes(lua_State *L, uint64_t blocks, uint64_t size) {
  uint64_t bytes = 0;
  bool fits = !__builtin_mul_overflow(blocks, size, &bytes) && bytes <= LUA_MAXINTEGER;
  lua_pushinteger(L, fits ? (lua_Integer)bytes : LUA_MAXINTEGER);
}

/*** The room in the file system that holds a path.
@function room
@tparam string path
@treturn[1] integer bytes that there are
@treturn[1] integer bytes that are free for users other than root
@treturn[2] nil
@treturn[2] string what is wrong, with the path
@treturn[2] integer errno */
static int file_room(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct statvfs about;
  if (statvfs(path, &about) != 0) return failure(L, path);
  push_bytes(L, about.f_blocks, about.f_frsize);
  push_bytes(L, about.f_bavail, about.f_frsize);
  return 2;
}

/*** Reads what is available from a descriptor.
@function read
@tparam integer fd
@treturn[1] string empty at the end
@treturn[2] nil
@treturn[2] string what is wrong; nil when there is nothing for now */
static int file_read(lua_State *L) {
  int fd = tb_check_descriptor(L, 1);
  luaL_Buffer buffer;
  char *room = luaL_buffinitsize(L, &buffer, READ_AT_ONCE);
  ssize_t count = read(fd, room, READ_AT_ONCE);
  if (count >= 0) {
    luaL_pushresultsize(&buffer, (size_t)count);
    return 1;
  }
  int error = errno;
  lua_pushnil(L);
  if (error == EAGAIN || error == EINTR) return 1;
  lua_pushstring(L, strerror(error));
  return 2;
}

/*** Writes as much as a descriptor takes at once. If nobody reads any more, it returns an error and raises no signal.
@function write
@tparam integer fd
@tparam string text
@tparam integer from the first byte to write, counted from 1
@treturn[1] integer the bytes that were written
@treturn[2] nil
@treturn[2] string what is wrong */
static int file_write(lua_State *L) {
  int fd = tb_check_descriptor(L, 1);
  size_t length;
  const char *text = luaL_checklstring(L, 2, &length);
  lua_Integer from = luaL_checkinteger(L, 3);
  luaL_argcheck(L, from >= 1 && (lua_Unsigned)from - 1 <= length, 3, "out of range");
  sigset_t broken, before;
  sigemptyset(&broken);
  sigaddset(&broken, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &broken, &before);
  ssize_t count = write(fd, text + from - 1, length - (size_t)from + 1);
  int error = count < 0 ? errno : 0;
  if (error == EPIPE && sigismember(&before, SIGPIPE) == 0) {
    const struct timespec at_once = {0};
    sigtimedwait(&broken, NULL, &at_once);
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error != 0 && error != EAGAIN && error != EINTR) {
    lua_pushnil(L);
    lua_pushstring(L, strerror(error));
    return 2;
  }
  lua_pushinteger(L, count < 0 ? 0 : (lua_Integer)count);
  return 1;
}

/*** Tells whether a descriptor is a terminal.
@function is_terminal
@tparam integer fd
@treturn boolean */
static int file_is_terminal(lua_State *L) {
  lua_pushboolean(L, isatty(tb_check_descriptor(L, 1)));
  return 1;
}

/*** Opens those of the three standard descriptors that are closed, so that no other file gets their numbers. What reads
from them, or writes to them, fails as if they were closed.
@function open_standard */
static int file_open_standard(lua_State *L) {
  (void)L;
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
    if (fcntl(fd, F_GETFD) != -1) continue;
    (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY); /* the lowest number that is free: fd */
  }
  return 0;
}

/*** The value of an environment variable, which is removed, so that no child process inherits it.
@function take_variable
@tparam string name
@treturn ?string nil when there is none */
static int file_take_variable(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  lua_pushstring(L, getenv(name)); /* nil for NULL */
  unsetenv(name);
  return 1;
}

void tb_open_files(lua_State *L) {
  static const luaL_Reg functions[] = {{"stat", file_stat},
                                       {"list", file_list},
                                       {"room", file_room},
                                       {"read", file_read},
                                       {"write", file_write},
                                       {"is_terminal", file_is_terminal},
                                       {"open_standard", file_open_standard},
                                       {"take_variable", file_take_variable},
                                       {NULL, NULL}};
  luaL_newmetatable(L, "thingsboard.folder");
  lua_pushcfunction(L, folder_close);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
}
