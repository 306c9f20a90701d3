/* The file's schema, and all SQL that C runs. */
#ifndef TB_SCHEMA_H
#define TB_SCHEMA_H

enum { TB_SCHEMA_VERSION = 3, TB_APPLICATION_ID = 0x74626f78 /* "tbox" */ };

/* TB_MIGRATIONS[n] makes version n + 1 of version n; version 0 is an empty file. Never change an entry that was
 * in a release, since files of that version exist: add another entry. */
extern const char *const TB_MIGRATIONS[TB_SCHEMA_VERSION];

/* Run when a file is opened. */
extern const char TB_SETTINGS[];

/* Statements that are run often, and so are prepared once. */
enum tb_statement {
  TB_INSERT,
  TB_JOIN,
  TB_SELECT,
  TB_FIND,
  TB_SUM,
  TB_SIZES,
  TB_DELETE,
  TB_NOTE_LAST,
  TB_SHAPE_OF,
  TB_KEYS_OF,
  TB_ADD_SHAPE,
  TB_UNUSED_SHAPES,
  TB_DELETE_SHAPE,
  TB_DATE,
  TB_PAGE_COUNT,
  TB_FREE_PAGES,
  TB_BEGIN,
  TB_COMMIT,
  TB_ROLLBACK,
  TB_STATEMENTS
};

extern const char *const TB_SQL[TB_STATEMENTS];

/* Statements that are run seldom. */
extern const char TB_DEVICE_OF[], TB_ADD_DEVICE[], TB_PERIOD_OF[], TB_ADD_PERIOD[];

#endif
