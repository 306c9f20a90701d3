/* Room on the disk. Two things must work even on a full disk: removing records, and moving the log's pages into the
 * file (SQLite's checkpoint), after which the log begins anew. So room for both is reserved before it is needed, by
 * writing zeros:
 *
 * - The file has every page that SQLite counts, also those that are only in the log still: it gets longer before a
 *   transaction may need that, and max_page_count keeps SQLite within its length. A checkpoint needs no room, then.
 * - The log has room for a checkpoint's interval of pages and one transaction behind it. Transactions are made that
 *   small: many records are written, and removed, in several. The log stays when the file is closed.
 * - Removing whole rows takes no new page.
 *
 * File and log together stay within spool->limit. Where they cannot grow nothing has been written, and the code is
 * SQLITE_FULL if there is room once records are removed, SQLITE_TOOBIG if there would be none, or for too many. */
#ifndef TB_ROOM_H
#define TB_ROOM_H

#include "spool/spool.h"

/* Sets how much file and log may take together; there is a least that they need. To be called before the file is
 * opened, or while it is open to allow more. */
void tb_room_set_limit(struct tb_spool *spool, int64_t limit);

/* Half the size of the file system that a path is in; 0 when that cannot be told. */
int64_t tb_room_half(const char *path);

/* Takes the log's room, for a file that was just opened. */
int tb_room_open(struct tb_spool *spool);

/* Has the log keep its room when the file is closed now, but nothing that would be read again. */
void tb_room_close(struct tb_spool *spool);

/* The page size for a new file. */
int tb_room_page_size(const struct tb_spool *spool);

/* Pages that a row of this many bytes takes. */
int64_t tb_room_pages(const struct tb_spool *spool, size_t bytes);

/* Pages, or rows to be removed, that one transaction may have. */
int64_t tb_room_in_transaction(const struct tb_spool *spool);

/* To be called before a change for which tb_room_for is not called, and which may take a page. */
void tb_room_forget(struct tb_spool *spool);

/* Reserves room for a transaction that adds this many pages. */
int tb_room_for(struct tb_spool *spool, int64_t pages);

#endif
