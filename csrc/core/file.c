#include "core/file.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/userdata.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <limits.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static struct tb_file *check_open(lua_State *L) {
  tb_check(L, 1, TB_FILE, sizeof(struct tb_file));
  return tb_test_file(L, 1);
}

static int failure(lua_State *L, const char *what, const char *path, int error) {
  lua_pushnil(L);
  lua_pushfstring(L, "cannot %s %s: %s", what, path, strerror(error));
  return 2;
}

/*** Begins a file. Until `commit`, the path stays as it is; the bytes go to a temporary file in the same directory,
which only its owner can read.
@function file
@tparam string path
@tparam ?string temporary name of the temporary file, overwritten when it exists: for a path that only one process
writes, so that a killed one leaves no more than this file. When absent, a new name is made
@treturn[1] userdata the file
@treturn[2] nil
@treturn[2] string what went wrong */
static int file_new(lua_State *L) {
  size_t length, temporary_length;
  const char *path = luaL_checklstring(L, 1, &length);
  luaL_argcheck(L, length > 0 && strlen(path) == length && length < PATH_MAX, 1, "not a file name");
  const char *temporary = luaL_optlstring(L, 2, NULL, &temporary_length);
  luaL_argcheck(L, temporary == NULL || strlen(temporary) == temporary_length, 2, "not a file name");
  struct tb_file *file = tb_new(L, TB_FILE, sizeof *file, 0);
  file->fd = -1;
  int error = tb_file_open(file, path, temporary);
  if (error == ENOMEM) return luaL_error(L, TB_NO_MEMORY);
  if (error != 0) return failure(L, "write beside", path, error);
  return 1;
}

/*** Appends bytes.
@function file:write
@tparam string bytes
@treturn[1] boolean true
@treturn[2] nil
@treturn[2] string what went wrong */
static int file_write(lua_State *L) {
  struct tb_file *file = check_open(L);
  size_t count;
  const char *bytes = luaL_checklstring(L, 2, &count);
  int error = tb_file_write(file, bytes, count);
  if (error != 0) return failure(L, "write", file->path, error);
  lua_pushboolean(L, 1);
  return 1;
}

/*** Syncs the file, and renames it to its path. The file is closed then.
@function file:commit
@treturn[1] boolean true
@treturn[2] nil
@treturn[2] string what went wrong; unless it was the directory's sync, the path is as it was */
static int file_commit(lua_State *L) {
  struct tb_file *file = check_open(L);
  int error = tb_file_commit(file);
  if (error != 0) {
    failure(L, "write", file->path, error);
    tb_file_discard(file);
    return 2;
  }
  error = tb_sync_directory(file->path);
  if (error != 0) return failure(L, "sync the directory of", file->path, error);
  lua_pushboolean(L, 1);
  return 1;
}

/*** Closes and removes the temporary file, unless it was committed. Idempotent.
@function file:close */
static int file_close(lua_State *L) {
  tb_file_discard(tb_check(L, 1, TB_FILE, sizeof(struct tb_file)));
  return 0;
}

static int file_tostring(lua_State *L) {
  const struct tb_file *file = tb_check(L, 1, TB_FILE, sizeof *file);
  lua_pushfstring(L, file->fd < 0 ? "thingsboard.file (closed)" : "thingsboard.file (%s)", file->path);
  return 1;
}

/*** Syncs a file: returns once all that any process has written to it is on the disk.
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

/*** The free space of the file system that a path is on.
@function free_space
@tparam string path of something that exists
@treturn[1] integer bytes that a user without privileges can write
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
