#include "core/file.h"

#include "base/userdata.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define TB_FILE "thingsboard.file"

struct tb_file {
  int fd;          /* -1 once committed or closed */
  char *path;      /* what it is to be called */
  char *temporary; /* what it is called until then; NULL before it exists */
};

static struct tb_file *check_open(lua_State *L, int index) {
  struct tb_file *file = luaL_checkudata(L, index, TB_FILE);
  if (file->fd < 0) luaL_error(L, "the file is closed");
  return file;
}

struct tb_file *tb_check_file(lua_State *L, int index) {
  return check_open(L, index);
}

int tb_file_write(struct tb_file *file, const void *bytes, size_t count) {
  const char *rest = bytes;
  while (count > 0) {
    ssize_t written = write(file->fd, rest, count);
    if (written < 0 && errno != EINTR) return errno;
    if (written > 0) {
      rest += written;
      count -= (size_t)written;
    }
  }
  return 0;
}

/* Gives up what has not been committed. */
static void discard(struct tb_file *file) {
  if (file->fd >= 0) {
    close(file->fd);
    file->fd = -1;
    unlink(file->temporary);
  }
  free(file->path);
  free(file->temporary);
  file->path = file->temporary = NULL;
}

static int failure(lua_State *L, const char *what, const char *path, int error) {
  lua_pushnil(L);
  lua_pushfstring(L, "cannot %s %s: %s", what, path, strerror(error));
  return 2;
}

/*** Begins a file: nothing is at `path` before `commit`, and what was there stays until then.
The temporary file stands in the same directory, readable by its owner alone.
@function file
@tparam string path
@tparam ?string temporary what it is called until then, where one process alone writes it: what a kill has left behind
is written over, while names that are made up pile up
@treturn[1] userdata the file
@treturn[2] nil
@treturn[2] string what went wrong */
static int file_new(lua_State *L) {
  static const char suffix[] = ".XXXXXX";
  size_t length;
  const char *path = luaL_checklstring(L, 1, &length);
  luaL_argcheck(L, length > 0 && strlen(path) == length && length < PATH_MAX, 1, "not a file name");
  size_t temporary_length;
  const char *temporary = luaL_optlstring(L, 2, NULL, &temporary_length);
  luaL_argcheck(L, temporary == NULL || strlen(temporary) == temporary_length, 2, "not a file name");
  struct tb_file *file = lua_newuserdatauv(L, sizeof *file, 0);
  *file = (struct tb_file){.fd = -1};
  luaL_setmetatable(L, TB_FILE);
  file->path = strdup(path);
  file->temporary = temporary != NULL ? strdup(temporary) : malloc(length + sizeof suffix);
  if (file->path == NULL || file->temporary == NULL) return luaL_error(L, "not enough memory");
  if (temporary == NULL) {
    memcpy(file->temporary, path, length);
    memcpy(file->temporary + length, suffix, sizeof suffix);
    file->fd = mkostemp(file->temporary, O_CLOEXEC);
  } else {
    file->fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
  }
  if (file->fd < 0) return failure(L, "write beside", path, errno);
  return 1;
}

/*** Appends bytes.
@function file:write
@tparam string bytes
@treturn[1] boolean true
@treturn[2] nil
@treturn[2] string what went wrong */
static int file_write(lua_State *L) {
  struct tb_file *file = check_open(L, 1);
  size_t count;
  const char *bytes = luaL_checklstring(L, 2, &count);
  int error = tb_file_write(file, bytes, count);
  if (error != 0) return failure(L, "write", file->path, error);
  lua_pushboolean(L, 1);
  return 1;
}

/* A rename is on disk once its directory is. Some file systems cannot sync one (EINVAL), and need not. */
static int sync_directory(const char *path) {
  char directory[PATH_MAX];
  const char *slash = strrchr(path, '/');
  size_t length = slash == NULL ? 0 : (size_t)(slash - path);
  memcpy(directory, path, length);
  directory[length] = '\0';
  const char *name = slash == NULL ? "." : length == 0 ? "/" : directory;
  int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  int error = fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
  close(fd);
  return error;
}

/*** Syncs the file and gives it its name, in place of what had it. The file is closed then.
@function file:commit
@treturn[1] boolean true
@treturn[2] nil
@treturn[2] string what went wrong; what stood at the path before stands there still */
static int file_commit(lua_State *L) {
  struct tb_file *file = check_open(L, 1);
  int error = fsync(file->fd) != 0 || rename(file->temporary, file->path) != 0 ? errno : 0;
  if (error != 0) {
    failure(L, "write", file->path, error);
    discard(file);
    return 2;
  }
  close(file->fd);
  file->fd = -1;
  error = sync_directory(file->path);
  if (error != 0) return failure(L, "sync the directory of", file->path, error);
  lua_pushboolean(L, 1);
  return 1;
}

/*** Gives the file up, unless it has been committed. Idempotent.
@function file:close */
static int file_close(lua_State *L) {
  discard(luaL_checkudata(L, 1, TB_FILE));
  return 0;
}

static int file_tostring(lua_State *L) {
  const struct tb_file *file = luaL_checkudata(L, 1, TB_FILE);
  lua_pushfstring(L, file->fd < 0 ? "thingsboard.file (closed)" : "thingsboard.file (%s)", file->path);
  return 1;
}

/*** Waits until what was written to a file, by whomever, is on the disk.
@function sync
@tparam string path
@treturn[1] boolean true
@treturn[2] nil
@treturn[2] string what went wrong */
static int file_sync(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failure(L, "open", path, errno);
  int error = fsync(fd) == 0 ? 0 : errno;
  close(fd);
  if (error != 0) return failure(L, "sync", path, error);
  lua_pushboolean(L, 1);
  return 1;
}

/*** How much can be written to the disk that a path is on.
@function free_space
@tparam string path of what is there
@treturn[1] integer bytes, for users without privileges
@treturn[2] nil
@treturn[2] string what went wrong */
static int free_space(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct statvfs disk;
  if (statvfs(path, &disk) != 0) return failure(L, "find the free space of", path, errno);
  uint64_t bytes = 0;
  if (__builtin_mul_overflow((uint64_t)disk.f_bavail, (uint64_t)disk.f_frsize, &bytes) || bytes > LUA_MAXINTEGER)
    bytes = LUA_MAXINTEGER;
  lua_pushinteger(L, (lua_Integer)bytes);
  return 1;
}

static const luaL_Reg functions[] = {{"file", file_new}, {"sync", file_sync}, {"free_space", free_space}, {NULL, NULL}};

static const luaL_Reg methods[] = {{"write", file_write}, {"commit", file_commit}, {"close", file_close}, {NULL, NULL}};

static const luaL_Reg metamethods[] = {
    {"__gc", file_close}, {"__close", file_close}, {"__tostring", file_tostring}, {NULL, NULL}};

void tb_open_file(lua_State *L) {
  tb_new_type(L, TB_FILE, methods, metamethods);
  luaL_setfuncs(L, functions, 0);
}
