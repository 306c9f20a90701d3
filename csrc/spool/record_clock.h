/* The times of records, in milliseconds: since 1970 where somebody knows the time, else since the system's start. Times
 * since the system's start are called uptimes here; they count sleep, too. */
#ifndef TB_RECORD_CLOCK_H
#define TB_RECORD_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* How the time since 1970 is known. */
enum tb_clock_policy {
  TB_CLOCK_UNKNOWN,
  TB_CLOCK_WALL,      /* by the system's clock */
  TB_CLOCK_CONFIRMED, /* by the system's clock while it is within a minute of uptime + offset, else by that */
  TB_CLOCK_FIXED      /* by uptime + offset */
};

struct tb_record_clock {
  enum tb_clock_policy policy;
  int64_t offset;
  int64_t last, last_up; /* the last time given, and the uptime then */
  bool given, undated;   /* whether there is one, and whether it is an uptime as well */
  bool became_known;     /* times since 1970 have been given after uptimes that are not dated yet, */
  int64_t known_offset;  /* whose order they keep when those are dated by this */
  int64_t first_up;      /* the first of these uptimes */
};

int64_t tb_uptime(void);

/* The offset from uptimes to times since 1970; false when it is unknown. */
bool tb_record_clock_offset(const struct tb_record_clock *clock, int64_t up, int64_t *offset);

/* The next timestamp, always later than the last. If the clock steps back, timestamps advance at half speed until the
 * clock has caught up, which keeps their order and spacing. */
int64_t tb_record_clock_next(struct tb_record_clock *clock, int64_t up);

/* The last timestamp was an uptime; later timestamps must follow it once it is dated with the offset. */
void tb_record_clock_became_known(struct tb_record_clock *clock, int64_t offset);

/* Advances past a timestamp that was given before, unless it is further ahead than `most`. Uptimes that are not dated
 * yet will be dated behind it, too. */
void tb_record_clock_follow(struct tb_record_clock *clock, int64_t time, int64_t most);

/* Advances past uptimes that were given before, in this boot, and are not dated yet. */
void tb_record_clock_follow_uptimes(struct tb_record_clock *clock, int64_t first, int64_t last);

/* The last timestamp given, if it is ahead of the true time. */
bool tb_record_clock_ahead(const struct tb_record_clock *clock, int64_t *last);

#endif
