/* The times of records, in milliseconds: by the wall's clock where that is known, else since the system's start. */
#ifndef TB_RECORD_CLOCK_H
#define TB_RECORD_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct tb_record_clock {
  int64_t last, last_up; /* the last one given, and how long the system had been up then */
  bool given, undated;   /* whether there is one, and whether it is since the system's start as well */
  bool became_known;     /* times have been given since then, to come behind those that wait for `date`: */
  int64_t known_offset;  /* what that is to add to them */
  enum { TB_CLOCK_BY_YEAR, TB_CLOCK_KNOWN, TB_CLOCK_UNKNOWN } policy;
  int64_t trusted_from;  /* the year's beginning, by which the clock is judged */
  bool learnt;           /* of a server, while the clock is not known: */
  int64_t learnt_offset; /* what has to be added to the time since the system's start */
};

/* How long the system has been up, its sleep included. */
int64_t tb_uptime(void);

/* What has to be added to the time since the system's start; false when nobody knows. */
bool tb_record_clock_offset(const struct tb_record_clock *clock, int64_t up, int64_t *offset);

/* The next time: never before the last, nor the same. After a step back of the clock it runs at half speed until the
 * clock has come up with it, so that order and spacing stay. */
int64_t tb_record_clock_next(struct tb_record_clock *clock, int64_t up);

/* The last time was undated, and what is put from now on must come behind it once it is dated. */
void tb_record_clock_became_known(struct tb_record_clock *clock, int64_t offset);

/* Goes on behind a time that was given before, unless that lies further ahead than `most`. */
void tb_record_clock_follow(struct tb_record_clock *clock, int64_t time, int64_t most);

/* The last time given, when it is later than the true one. */
bool tb_record_clock_ahead(const struct tb_record_clock *clock, int64_t *last);

#endif
