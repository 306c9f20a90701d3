#include "spool/record_clock.h"

#include <time.h>

/* Back; one of more was no correction: the time before was wrong. */
#define LONGEST_STEP ((int64_t)7 * 24 * 3600 * 1000)

static int64_t milliseconds(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

bool tb_times_offset(const struct tb_times *times, int64_t up, int64_t *offset) {
  int64_t now = milliseconds(CLOCK_REALTIME);
  bool known = times->told == TB_BY_YEAR ? now >= times->trusted_from : times->told == TB_KNOWN;
  *offset = known ? now - up : times->learnt_offset;
  return known || times->learnt;
}

int64_t tb_uptime(void) {
  return milliseconds(CLOCK_BOOTTIME);
}

void tb_times_become_known(struct tb_times *times, int64_t offset) {
  times->last += offset;
  times->undated = false;
  times->became_known = true;
  times->known_offset = offset;
}

int64_t tb_times_next(struct tb_times *times, int64_t up) {
  int64_t offset = 0;
  bool dated = tb_times_offset(times, up, &offset);
  int64_t now = dated ? up + offset : up;
  if (dated && times->undated) {
    tb_times_become_known(times, offset);
  } else if (!dated && !times->undated) {
    times->given = times->became_known = false;
    times->undated = true;
  }
  if (times->given && times->last >= now && times->last - now <= LONGEST_STEP)
    now = times->last + (up - times->last_up > 3 ? (up - times->last_up) / 2 : 1);
  times->last = now;
  times->last_up = up;
  times->given = true;
  return now;
}

void tb_times_follow(struct tb_times *times, int64_t time, int64_t most) {
  int64_t up = tb_uptime(), offset;
  if (!tb_times_offset(times, up, &offset) || times->undated || time - up - offset > most) return;
  if (time <= (times->given ? times->last : up + offset)) return;
  times->last = time;
  times->last_up = up;
  times->given = true;
}

bool tb_times_ahead(const struct tb_times *times, int64_t *last) {
  int64_t up = tb_uptime(), offset;
  *last = times->last;
  return !times->undated && times->given && tb_times_offset(times, up, &offset) && times->last > up + offset;
}
