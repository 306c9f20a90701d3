/* insert PATH COUNT SECONDS: records of three values into an SQLite database by one prepared statement, with the
 * pragmas of an outbox: a commit for each, or with SECONDS other than 0 a transaction of so many seconds. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static sqlite3 *db;

static void check(int code) {
  if (code == SQLITE_OK || code == SQLITE_DONE) return;
  fprintf(stderr, "%s\n", sqlite3_errmsg(db));
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  long count = strtol(argv[2], NULL, 10);
  double seconds = strtod(argv[3], NULL), deadline = now() + seconds;
  check(sqlite3_open(argv[1], &db));
  check(sqlite3_exec(db,
                     "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                     "PRAGMA wal_autocheckpoint=256; PRAGMA journal_size_limit=1048576; PRAGMA cache_size=-256;"
                     "CREATE TABLE record(id INTEGER PRIMARY KEY, ts INTEGER, shape INTEGER, body TEXT)",
                     NULL, NULL, NULL));
  sqlite3_stmt *insert;
  check(sqlite3_prepare_v2(db, "INSERT INTO record VALUES(?, ?, 1, ?)", -1, &insert, NULL));
  if (seconds > 0) check(sqlite3_exec(db, "BEGIN", NULL, NULL, NULL));
  for (long i = 1; i <= count; i++) {
    check(sqlite3_bind_int64(insert, 1, i));
    check(sqlite3_bind_int64(insert, 2, 1790000000000 + i));
    check(sqlite3_bind_text(insert, 3,
                            "21.5\x1f"
                            "60\x1f"
                            "3.123",
                            -1, SQLITE_STATIC));
    check(sqlite3_step(insert));
    check(sqlite3_reset(insert));
    if (seconds > 0 && now() >= deadline) {
      check(sqlite3_exec(db, "COMMIT; BEGIN", NULL, NULL, NULL));
      deadline = now() + seconds;
    }
  }
  if (seconds > 0) check(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL));
  sqlite3_finalize(insert);
  check(sqlite3_close(db));
  return 0;
}
