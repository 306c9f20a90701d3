/* Power cuts for specs: an SQLite VFS over the system's. It keeps what was synced apart from what was only written; at
 * a chosen point the power goes: from then on every call fails, and `restore` leaves on the disk only what had been
 * synced, with as much of the rest as chance gives.
 *
 * What is lost, as SQLite's own crash tests have it: a write that was not synced is there, or not, or in part, or
 * garbage, sector by sector, in any order; a file's name that was made or removed is durable once its directory was
 * synced, which SQLite's VFS for Unix does when it first syncs a new journal or log, and when a removal asks for it. */
#include <lauxlib.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SECTOR = 512 };

/* A write, or with bytes == NULL the file's new size. */
struct change {
  struct change *next;
  unsigned char *bytes;
  size_t offset, length;
};

/* A file's content apart from its name. */
struct content {
  struct content *next; /* of all, until power comes back */
  unsigned char *durable;
  size_t size;
  struct change *first, **last; /* not synced yet, in order */
};

struct entry {
  struct entry *next;
  struct content *now, *durable; /* what the name stands for, before and after a cut; NULL: no such file */
  char name[];
};

struct file {
  sqlite3_file base;
  struct content *content; /* NULL: a temporary file */
  unsigned lives;          /* how often power had come back when it was opened */
  bool new_log;            /* its first sync is its directory's, too */
  sqlite3_file *real;
};

static sqlite3_vfs *real, vfs;
static struct entry *entries;
static struct content *contents;
static bool off;
static unsigned lives;
static long points, syncs, cut_at; /* counted since `arm`; cut_at 0: never */
static bool only_syncs;
static uint64_t chance; /* the generator's state; 0: nothing that was not synced survives */

static void *need(void *block) {
  if (block == NULL) abort();
  return block;
}

static unsigned pick(unsigned below) {
  if (chance == 0) return 0;
  chance ^= chance << 13;
  chance ^= chance >> 7;
  chance ^= chance << 17;
  return (unsigned)((chance >> 24) % below);
}

/* A point at which the power may go. Whether it has gone. */
static bool reach(bool is_sync) {
  if (off) return true;
  points++;
  if (is_sync) syncs++;
  off = cut_at != 0 && (only_syncs ? is_sync && syncs == cut_at : points == cut_at);
  return off;
}

static void resize(struct content *content, size_t size) {
  if (size > content->size) {
    content->durable = need(realloc(content->durable, size));
    memset(content->durable + content->size, 0, size - content->size);
  }
  content->size = size;
}

static void put(struct content *content, size_t offset, const unsigned char *bytes, size_t length) {
  if (offset + length > content->size) resize(content, offset + length);
  memcpy(content->durable + offset, bytes, length);
}

/* Makes durable what was only written: all of it, or at a cut what chance leaves. */
static void settle(struct content *content, bool all) {
  struct change *change = content->first;
  while (change != NULL) {
    struct change *next = change->next;
    unsigned fate = all ? 1 : pick(3); /* 0: lost; 1: whole; 2: each sector for itself */
    if (change->bytes == NULL && fate != 0) resize(content, change->length);
    for (size_t at = 0, end; change->bytes != NULL && fate != 0 && at < change->length; at = end) {
      end = at + SECTOR - (change->offset + at) % SECTOR;
      if (end > change->length) end = change->length;
      unsigned sector = fate == 1 ? 1 : pick(5);
      if (sector == 4) {
        for (size_t i = at; i < end; i++) change->bytes[i] = (unsigned char)pick(256);
      }
      if (sector != 0) put(content, change->offset + at, change->bytes + at, end - at);
    }
    free(change->bytes);
    free(change);
    change = next;
  }
  content->first = NULL;
  content->last = &content->first;
}

static void remember(struct content *content, const void *bytes, size_t offset, size_t length) {
  struct change *change = need(calloc(1, sizeof *change));
  if (bytes != NULL) change->bytes = memcpy(need(malloc(length + 1)), bytes, length);
  change->offset = offset;
  change->length = length;
  *content->last = change;
  content->last = &change->next;
}

static struct content *new_content(void) {
  struct content *content = need(calloc(1, sizeof *content));
  content->last = &content->first;
  content->next = contents;
  contents = content;
  return content;
}

static void sync_directory(void) {
  for (struct entry *entry = entries; entry != NULL; entry = entry->next) entry->durable = entry->now;
}

/* The entry of a file; one that nobody has opened yet is durable as it lies there. */
static struct entry *find(const char *name) {
  struct entry *entry = entries;
  while (entry != NULL && strcmp(entry->name, name) != 0) entry = entry->next;
  if (entry != NULL) return entry;
  entry = need(calloc(1, sizeof *entry + strlen(name) + 1));
  memcpy(entry->name, name, strlen(name) + 1);
  entry->next = entries;
  entries = entry;
  FILE *there = fopen(name, "rbe");
  if (there == NULL) return entry;
  entry->now = entry->durable = new_content();
  unsigned char block[4096];
  size_t length;
  while ((length = fread(block, 1, sizeof block, there)) > 0) put(entry->now, entry->now->size, block, length);
  fclose(there);
  return entry;
}

static bool is_dead(const struct file *file) {
  return off || file->lives != lives;
}

static int on_close(sqlite3_file *base) {
  struct file *file = (struct file *)base;
  return file->real->pMethods->xClose(file->real);
}

static int on_read(sqlite3_file *base, void *bytes, int length, sqlite3_int64 offset) {
  struct file *file = (struct file *)base;
  if (is_dead(file)) return SQLITE_IOERR_READ;
  return file->real->pMethods->xRead(file->real, bytes, length, offset);
}

static int on_write(sqlite3_file *base, const void *bytes, int length, sqlite3_int64 offset) {
  struct file *file = (struct file *)base;
  if (is_dead(file)) return SQLITE_IOERR_WRITE;
  if (file->content != NULL) {
    remember(file->content, bytes, (size_t)offset, (size_t)length);
    if (reach(false)) return SQLITE_IOERR_WRITE;
  }
  return file->real->pMethods->xWrite(file->real, bytes, length, offset);
}

static int on_truncate(sqlite3_file *base, sqlite3_int64 size) {
  struct file *file = (struct file *)base;
  if (is_dead(file)) return SQLITE_IOERR_TRUNCATE;
  if (file->content != NULL) {
    remember(file->content, NULL, 0, (size_t)size);
    if (reach(false)) return SQLITE_IOERR_TRUNCATE;
  }
  return file->real->pMethods->xTruncate(file->real, size);
}

/* The disk itself is not asked: what is durable is decided here. */
static int on_sync(sqlite3_file *base, int flags) {
  (void)flags;
  struct file *file = (struct file *)base;
  if (is_dead(file)) return SQLITE_IOERR_FSYNC;
  if (file->content == NULL) return SQLITE_OK;
  if (reach(true)) return SQLITE_IOERR_FSYNC;
  settle(file->content, true);
  if (file->new_log) {
    if (reach(true)) return SQLITE_IOERR_DIR_FSYNC;
    sync_directory();
    file->new_log = false;
  }
  return SQLITE_OK;
}

static int on_size(sqlite3_file *base, sqlite3_int64 *size) {
  struct file *file = (struct file *)base;
  if (is_dead(file)) return SQLITE_IOERR_FSTAT;
  return file->real->pMethods->xFileSize(file->real, size);
}

static int on_lock(sqlite3_file *base, int level) {
  struct file *file = (struct file *)base;
  if (is_dead(file)) return SQLITE_IOERR_LOCK;
  return file->real->pMethods->xLock(file->real, level);
}

static int on_unlock(sqlite3_file *base, int level) {
  struct file *file = (struct file *)base;
  return file->real->pMethods->xUnlock(file->real, level);
}

static int on_check_lock(sqlite3_file *base, int *held) {
  struct file *file = (struct file *)base;
  return file->real->pMethods->xCheckReservedLock(file->real, held);
}

/* The system's file is asked what it knows, but does nothing behind our back, such as to grow the file. */
static int on_control(sqlite3_file *base, int what, void *argument) {
  struct file *file = (struct file *)base;
  if (what == SQLITE_FCNTL_SIZE_HINT || what == SQLITE_FCNTL_CHUNK_SIZE) return SQLITE_OK;
  return file->real->pMethods->xFileControl(file->real, what, argument);
}

static int on_sector_size(sqlite3_file *base) {
  struct file *file = (struct file *)base;
  return file->real->pMethods->xSectorSize(file->real);
}

static int on_traits(sqlite3_file *base) {
  struct file *file = (struct file *)base;
  return file->real->pMethods->xDeviceCharacteristics(file->real);
}

/* Version 1: no shared memory and no mapping, so that every byte comes by here. */
static const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = on_close,
    .xRead = on_read,
    .xWrite = on_write,
    .xTruncate = on_truncate,
    .xSync = on_sync,
    .xFileSize = on_size,
    .xLock = on_lock,
    .xUnlock = on_unlock,
    .xCheckReservedLock = on_check_lock,
    .xFileControl = on_control,
    .xSectorSize = on_sector_size,
    .xDeviceCharacteristics = on_traits,
};

static int on_open(sqlite3_vfs *self, const char *name, sqlite3_file *base, int flags, int *flags_got) {
  (void)self;
  struct file *file = (struct file *)base;
  memset(file, 0, sizeof *file);
  file->real = (sqlite3_file *)(file + 1);
  file->lives = lives;
  if (off) return SQLITE_CANTOPEN;
  struct entry *entry = name == NULL || (flags & SQLITE_OPEN_DELETEONCLOSE) != 0 ? NULL : find(name);
  bool makes = entry != NULL && entry->now == NULL && (flags & SQLITE_OPEN_CREATE) != 0;
  if (makes && reach(false)) return SQLITE_CANTOPEN;
  int code = real->xOpen(real, name, file->real, flags, flags_got);
  if (code != SQLITE_OK) {
    if (file->real->pMethods != NULL) file->real->pMethods->xClose(file->real);
    return code;
  }
  if (makes) {
    entry->now = new_content();
    file->new_log = (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL)) != 0;
  }
  if (entry != NULL) file->content = entry->now;
  file->base.pMethods = &methods;
  return SQLITE_OK;
}

static int on_delete(sqlite3_vfs *self, const char *name, int sync) {
  (void)self;
  if (reach(false)) return SQLITE_IOERR_DELETE;
  find(name)->now = NULL;
  int code = real->xDelete(real, name, 0);
  if (code != SQLITE_OK || !sync) return code;
  if (reach(true)) return SQLITE_IOERR_DIR_FSYNC;
  sync_directory();
  return SQLITE_OK;
}

static int on_access(sqlite3_vfs *self, const char *name, int flags, int *result) {
  (void)self;
  if (off) return SQLITE_IOERR_ACCESS;
  return real->xAccess(real, name, flags, result);
}

/* arm([n [, what [, seed]]]): the power goes at the n-th point from here, of all, or with "sync" of those where
 * something would become durable; without n at none. With a seed other than 0, chance saves some of what was not
 * synced. */
static int arm(lua_State *L) {
  cut_at = (long)luaL_optinteger(L, 1, 0);
  only_syncs = lua_isstring(L, 2) && strcmp(lua_tostring(L, 2), "sync") == 0;
  chance = (uint64_t)luaL_optinteger(L, 3, 0) * 0x9E3779B97F4A7C15u;
  points = syncs = 0;
  return 0;
}

/* Whether the power has gone; how many points, and how many syncs, have passed since `arm`. */
static int gone(lua_State *L) {
  lua_pushboolean(L, off);
  lua_pushinteger(L, points);
  lua_pushinteger(L, syncs);
  return 3;
}

static void write_out(lua_State *L, const char *name, const struct content *content) {
  FILE *file = fopen(name, "wbe");
  if (file == NULL || fwrite(content->durable, 1, content->size, file) != content->size || fclose(file) != 0) {
    luaL_error(L, "cannot write %s", name);
  }
}

/* Power comes back, after it has gone now if it had not: the disk holds what survived, and what was open is dead. */
static int restore(lua_State *L) {
  for (struct entry *entry = entries, *next; entry != NULL; entry = next) {
    next = entry->next;
    struct content *content = pick(2) == 0 ? entry->durable : entry->now;
    if (content != NULL) {
      settle(content, false);
      write_out(L, entry->name, content);
    } else if (unlink(entry->name) != 0 && access(entry->name, F_OK) == 0) {
      return luaL_error(L, "cannot remove %s", entry->name);
    }
    free(entry);
  }
  entries = NULL;
  for (struct content *content = contents, *next; content != NULL; content = next) {
    next = content->next; /* files that are dead but not closed yet look at theirs no more */
    settle(content, false);
    free(content->durable);
    free(content);
  }
  contents = NULL;
  off = false;
  lives++;
  cut_at = 0;
  return 0;
}

/* install(): this VFS is SQLite's default until `remove`. */
static int install(lua_State *L) {
  if (sqlite3_initialize() != SQLITE_OK) return luaL_error(L, "SQLite does not start");
  real = sqlite3_vfs_find(NULL);
  vfs = *real;
  vfs.pNext = NULL;
  vfs.zName = "powercut";
  vfs.szOsFile = (int)sizeof(struct file) + real->szOsFile;
  vfs.xOpen = on_open;
  vfs.xDelete = on_delete;
  vfs.xAccess = on_access;
  if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK) return luaL_error(L, "SQLite does not take the VFS");
  return 0;
}

static int uninstall(lua_State *L) {
  (void)L;
  sqlite3_vfs_unregister(&vfs);
  return 0;
}

int luaopen_powercut(lua_State *L);

int luaopen_powercut(lua_State *L) {
  static const luaL_Reg functions[] = {{"install", install}, {"remove", uninstall}, {"arm", arm},
                                       {"gone", gone},       {"restore", restore},  {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
