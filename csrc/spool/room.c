#include "spool/room.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/statvfs.h>

enum {
  LEAST_LIMIT = 64 * 1024,
  SMALL_LIMIT = 1024 * 1024, /* below this, pages are small */
  SMALL_PAGE = 1024,
  PAGE = 4096,
  MOST_LOG = 2 * 1024 * 1024,
  LOG_HEADER = 32,
  FRAME_HEADER = 24, /* of each page in the log */
  LEAST_FRAMES = 24, /* of the log: half of them until a checkpoint, */
  SMALL_LOG = 96,    /* a quarter where they are fewer than these */
  GROWTH = 16,       /* pages by which the file gets longer */
  /* Pages that a transaction changes in addition to those of its rows: the tree above them, the schema, the free list.
   */
  TOUCHED = 8,
  /* Of these it adds: where the tree gets higher. And as many stay free, for the counters. */
  SPLIT = 3,
  KEPT_FREE = 3,
  MOST_PART = 4 /* the part of a full file for which what it holds may be removed */
};

void tb_room_set_limit(struct tb_spool *spool, int64_t limit) {
  spool->limit = limit < LEAST_LIMIT ? LEAST_LIMIT : limit;
}

int64_t tb_room_half(const char *path) {
  struct statvfs fs;
  if (statvfs(path, &fs) != 0) return 0;
  uint64_t half = (uint64_t)fs.f_blocks / 2, size = fs.f_frsize == 0 ? 1 : fs.f_frsize;
  return half > INT64_MAX / size ? INT64_MAX : (int64_t)(half * size);
}

int tb_room_page_size(const struct tb_spool *spool) {
  return spool->limit < SMALL_LIMIT ? SMALL_PAGE : PAGE;
}

int64_t tb_room_pages(const struct tb_spool *spool, size_t bytes) {
  return (int64_t)bytes / (spool->page - 4) + 1; /* each page of a large row has the number of the next */
}

int64_t tb_room_in_transaction(const struct tb_spool *spool) {
  return spool->frames - spool->interval - TOUCHED - SPLIT;
}

static int64_t log_size(const struct tb_spool *spool, int64_t frames) {
  return LOG_HEADER + frames * (spool->page + FRAME_HEADER);
}

/* Makes a file so long, if it is not, by zeros. Where the process may make none so long, that is a full disk. */
static int extend(sqlite3_file *file, int64_t size) {
  static const char zeros[PAGE];
  sqlite3_int64 at;
  int error = 0;
  int code = file->pMethods->xFileSize(file, &at);
  while (code == SQLITE_OK && at < size) {
    int64_t length = size - at < PAGE ? size - at : PAGE;
    code = file->pMethods->xWrite(file, zeros, (int)length, at);
    at += length;
  }
  if (code == SQLITE_IOERR_WRITE) (void)file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &error);
  return error == EFBIG ? SQLITE_FULL : code;
}

static int set(struct tb_spool *spool, const char *pragma, int64_t value) {
  char sql[64];
  sqlite3_snprintf(sizeof sql, sql, "PRAGMA %s = %lld", pragma, (long long)value);
  return sqlite3_exec(spool->db, sql, NULL, NULL, NULL);
}

/* SQLite's own handles of the file and its log. */
static int handles(struct tb_spool *spool, sqlite3_file **file, sqlite3_file **log) {
  *file = *log = NULL;
  int code = sqlite3_file_control(spool->db, "main", SQLITE_FCNTL_FILE_POINTER, file);
  if (code == SQLITE_OK) code = sqlite3_file_control(spool->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, log);
  bool are_open =
      code == SQLITE_OK && *file != NULL && (*file)->pMethods != NULL && *log != NULL && (*log)->pMethods != NULL;
  return code != SQLITE_OK || are_open ? code : SQLITE_CANTOPEN;
}

/* Tells SQLite how long the file is, so that it neither wants more, nor cuts off after a checkpoint what is not used.
 */
static int keep_length(struct tb_spool *spool, int64_t length) {
  int chunk = (int)(length <= INT_MAX ? length : GROWTH * spool->page);
  int code = sqlite3_file_control(spool->db, "main", SQLITE_FCNTL_CHUNK_SIZE, &chunk);
  return code == SQLITE_OK || code == SQLITE_NOTFOUND ? set(spool, "max_page_count", length / spool->page) : code;
}

static void set_frames(struct tb_spool *spool, int64_t frames) {
  spool->frames = frames < LEAST_FRAMES ? LEAST_FRAMES : frames;
  spool->interval = spool->frames < SMALL_LOG ? spool->frames / 4 : spool->frames / 2;
}

/* Called by SQLite after each commit. It moves the log's pages into the file, as SQLite's own hook would. A transaction
 * that has written one page has used none: whoever takes a page writes a second one, which tells of it. */
static int on_commit(void *data, sqlite3 *db, const char *name, int log_pages) {
  struct tb_spool *spool = data;
  if (log_pages == spool->log_pages + 1) spool->spare += spool->lent;
  spool->lent = 0;
  spool->log_pages = log_pages;
  if (log_pages >= spool->interval) sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
  return SQLITE_OK;
}

void tb_room_forget(struct tb_spool *spool) {
  spool->spare = spool->lent = 0;
}

int tb_room_open(struct tb_spool *spool) {
  sqlite3_file *file, *log;
  tb_room_forget(spool);
  sqlite3_int64 length;
  int persist = 1;
  int code = handles(spool, &file, &log);
  if (code != SQLITE_OK) return code;
  int64_t most = spool->limit / 4 < MOST_LOG ? spool->limit / 4 : MOST_LOG;
  set_frames(spool, most / (spool->page + FRAME_HEADER));
  /* If the disk lacks even that, the file can still be read and sent. */
  if (extend(log, log_size(spool, spool->frames)) != SQLITE_OK) {
    set_frames(spool, LEAST_FRAMES);
    (void)extend(log, log_size(spool, spool->frames));
  }
  spool->log_pages = 0;
  sqlite3_wal_hook(spool->db, on_commit, spool);
  code = set(spool, "journal_size_limit", log_size(spool, spool->frames));
  if (code == SQLITE_OK) code = sqlite3_file_control(spool->db, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
  if (code == SQLITE_OK || code == SQLITE_NOTFOUND) code = file->pMethods->xFileSize(file, &length);
  return code == SQLITE_OK && length > 0 ? keep_length(spool, length) : code;
}

void tb_room_close(struct tb_spool *spool) {
  static const char no_header[LOG_HEADER];
  sqlite3_file *file, *log;
  if (spool->db == NULL || handles(spool, &file, &log) != SQLITE_OK) return;
  set(spool, "journal_size_limit", -1); /* or the log would be cut to nothing */
  if (sqlite3_wal_checkpoint_v2(spool->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL) == SQLITE_OK)
    (void)log->pMethods->xWrite(log, no_header, LOG_HEADER, 0);
}

static int read_count(struct tb_spool *spool, enum tb_statement which, int64_t *count) {
  sqlite3_stmt *statement = spool->statements[which];
  int code = sqlite3_step(statement);
  *count = code == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
  sqlite3_reset(statement);
  return code == SQLITE_ROW ? SQLITE_OK : code;
}

static int extend_log(struct tb_spool *spool, sqlite3_file *log, int64_t file_length, int64_t pages) {
  sqlite3_int64 length;
  int64_t wanted = log_size(spool, spool->interval + pages + TOUCHED);
  int code = log->pMethods->xFileSize(log, &length);
  if (code != SQLITE_OK || length >= wanted) return code;
  code = wanted > spool->limit - file_length ? SQLITE_FULL : extend(log, wanted);
  return code == SQLITE_FULL ? SQLITE_TOOBIG : code; /* the log gets no longer when records are removed */
}

static int extend_file(struct tb_spool *spool, sqlite3_file *file, sqlite3_file *log, int64_t wanted) {
  sqlite3_int64 length;
  int code = log->pMethods->xFileSize(log, &length);
  if (code != SQLITE_OK) return code;
  int64_t most = (spool->limit - length) / spool->page * spool->page;
  int64_t more = wanted + GROWTH * spool->page;
  if (wanted > most) return SQLITE_FULL;
  if (more > most) more = most;
  if (extend(file, more) != SQLITE_OK) code = extend(file, wanted);
  /* It may have got longer than wanted, and SQLite must know its true length. */
  if (code == SQLITE_OK) code = file->pMethods->xFileSize(file, &length);
  return code == SQLITE_OK ? keep_length(spool, length / spool->page * spool->page) : code;
}

int tb_room_for(struct tb_spool *spool, int64_t pages) {
  sqlite3_file *file, *log;
  sqlite3_int64 length;
  int64_t count, unused;
  if (pages + SPLIT <= spool->spare && pages <= spool->spare_at_once) {
    spool->spare -= pages + SPLIT;
    spool->lent = pages + SPLIT;
    return SQLITE_OK;
  }
  tb_room_forget(spool);
  int code = handles(spool, &file, &log);
  if (code == SQLITE_OK) code = file->pMethods->xFileSize(file, &length);
  if (code == SQLITE_OK) code = read_count(spool, TB_PAGE_COUNT, &count);
  if (code == SQLITE_OK) code = read_count(spool, TB_FREE_PAGES, &unused);
  if (code == SQLITE_OK) code = extend_log(spool, log, length, pages + SPLIT);
  if (code != SQLITE_OK) return code;
  int64_t used = count - unused + pages + SPLIT + KEPT_FREE;
  int64_t missing = used - length / spool->page;
  if (missing > 0) {
    code = extend_file(spool, file, log, (length / spool->page + missing) * spool->page);
    if (code == SQLITE_OK) code = file->pMethods->xFileSize(file, &length);
  }
  if (code == SQLITE_FULL && pages > length / spool->page / MOST_PART) return SQLITE_TOOBIG;
  if (code != SQLITE_OK) return code;
  spool->spare = length / spool->page - used;
  spool->lent = pages + SPLIT;
  spool->spare_at_once = pages;
  return SQLITE_OK;
}
