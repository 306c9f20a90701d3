#include "base/file.h"

#include "base/userdata.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char TB_FILE[] = "thingsboard.file";

struct tb_file *tb_test_file(lua_State *L, int index) {
  struct tb_file *file = tb_test(L, index, TB_FILE, sizeof *file);
  if (file != NULL && file->fd < 0) luaL_error(L, "the file is closed");
  return file;
}

int tb_file_open(struct tb_file *file, const char *path, const char *temporary) {
  static const char suffix[] = ".XXXXXX";
  size_t length = strlen(path);
  file->path = strdup(path);
  file->temporary = temporary != NULL ? strdup(temporary) : malloc(length + sizeof suffix);
  if (file->path == NULL || file->temporary == NULL) return ENOMEM;
  if (temporary == NULL) {
    memcpy(file->temporary, path, length);
    memcpy(file->temporary + length, suffix, sizeof suffix);
    file->fd = mkostemp(file->temporary, O_CLOEXEC);
  } else {
    file->fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
  }
  return file->fd < 0 ? errno : 0;
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

int tb_file_commit(struct tb_file *file) {
  if (fsync(file->fd) != 0 || rename(file->temporary, file->path) != 0) return errno;
  close(file->fd);
  file->fd = -1;
  return 0;
}

int tb_sync_directory(const char *path) {
  char directory[PATH_MAX];
  const char *slash = strrchr(path, '/');
  size_t length = slash == NULL ? 0 : (size_t)(slash - path);
  if (length >= sizeof directory) return ENAMETOOLONG;
  memcpy(directory, path, length);
  directory[length] = '\0';
  const char *name = slash == NULL ? "." : length == 0 ? "/" : directory;
  int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  int error = fsync(fd) == 0 || errno == EINVAL ? 0 : errno; /* EINVAL: this file system cannot, and need not */
  close(fd);
  return error;
}

void tb_file_discard(struct tb_file *file) {
  if (file->fd >= 0) {
    close(file->fd);
    file->fd = -1;
    unlink(file->temporary);
  }
  free(file->path);
  free(file->temporary);
  file->path = file->temporary = NULL;
}
