/* A file that appears whole or not at all: it is written under a temporary name, synced, and renamed. */
#ifndef TB_FILE_H
#define TB_FILE_H

#include <lua.h>
#include <stddef.h>

extern const char TB_FILE[]; /* the userdata's name in Lua */

struct tb_file {
  const char *type;
  int fd;          /* -1 once committed or closed */
  char *path;      /* its name after commit */
  char *temporary; /* its name until then; NULL: none is made yet */
};

/* The open file at the index; NULL when there is something else; raises when it is closed. */
struct tb_file *tb_test_file(lua_State *L, int index);

/* Opens the file for writing, readable by its owner alone. `temporary` is overwritten when it exists; without it a new
 * name beside the path is made. Like the next two, it returns 0 or an errno, and calls nothing of Lua. */
int tb_file_open(struct tb_file *file, const char *path, const char *temporary);

/* Appends the bytes. */
int tb_file_write(struct tb_file *file, const void *bytes, size_t count);

/* Syncs the file, renames it to its path, and closes it. A failure leaves all as it was. */
int tb_file_commit(struct tb_file *file);

/* Syncs the directory that a path is in: a rename is on the disk after that. */
int tb_sync_directory(const char *path);

/* Closes the file and removes it, unless it was committed. Idempotent. */
void tb_file_discard(struct tb_file *file);

#endif
