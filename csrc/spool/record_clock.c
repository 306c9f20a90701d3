#include "spool/record_clock.h"

#include <time.h>

#define MINUTE ((int64_t)60 * 1000)

/* Back; one of more was no correction: the time before was wrong. */
#define LONGEST_STEP (MINUTE * 60 * 24 * 7)

static int64_t milliseconds(clockid_t id) {
  struct timespec time;
  clock_gettime(id, &time);
  return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

bool tb_record_clock_offset(const struct tb_record_clock *clock, int64_t up, int64_t *offset) {
  int64_t wall = milliseconds(CLOCK_REALTIME) - up, error = wall - clock->offset;
  bool is_right = clock->policy == TB_CLOCK_CONFIRMED && error <= MINUTE && error >= -MINUTE;
  *offset = clock->policy == TB_CLOCK_WALL || is_right ? wall : clock->offset;
  return clock->policy != TB_CLOCK_UNKNOWN;
}

int64_t tb_uptime(void) {
  return milliseconds(CLOCK_BOOTTIME);
}

void tb_record_clock_became_known(struct tb_record_clock *clock, int64_t offset) {
  clock->last += offset;
  clock->undated = false;
  clock->became_known = true;
  clock->known_offset = offset;
}

int64_t tb_record_clock_next(struct tb_record_clock *clock, int64_t up) {
  int64_t offset;
  bool dated = tb_record_clock_offset(clock, up, &offset);
  int64_t now = dated ? up + offset : up;
  if (dated && clock->undated) {
    tb_record_clock_became_known(clock, offset);
  } else if (!dated && !clock->undated) {
    clock->given = false;
    clock->undated = true;
    clock->first_up = up;
  }
  if (clock->given && clock->last >= now && clock->last - now <= LONGEST_STEP)
    now = clock->last + (up - clock->last_up > 3 ? (up - clock->last_up) / 2 : 1);
  clock->last = now;
  clock->last_up = up;
  clock->given = true;
  return now;
}

void tb_record_clock_follow(struct tb_record_clock *clock, int64_t time, int64_t most) {
  int64_t up = tb_uptime(), offset;
  if (!tb_record_clock_offset(clock, up, &offset) || time - up - offset > most) return;
  if (clock->undated) tb_record_clock_became_known(clock, offset);
  if (clock->became_known && time >= clock->first_up + clock->known_offset) {
    offset = time + 1 - clock->first_up;
    clock->last += offset - clock->known_offset;
    clock->known_offset = offset;
  }
  if (clock->given && time <= clock->last) return;
  clock->last = time;
  clock->last_up = up;
  clock->given = true;
}

void tb_record_clock_follow_uptimes(struct tb_record_clock *clock, int64_t first, int64_t last) {
  int64_t up = tb_uptime(), offset;
  bool dated = clock->given && !clock->undated;
  if (dated && tb_record_clock_offset(clock, up, &offset)) tb_record_clock_follow(clock, last + offset, INT64_MAX);
  if (dated) return;
  if (!clock->undated || first < clock->first_up) clock->first_up = first;
  if (clock->undated && last <= clock->last) return;
  clock->last = last;
  clock->last_up = up;
  clock->given = clock->undated = true;
}

bool tb_record_clock_ahead(const struct tb_record_clock *clock, int64_t *last) {
  int64_t up = tb_uptime(), offset;
  *last = clock->last;
  return !clock->undated && tb_record_clock_offset(clock, up, &offset) && clock->last > up + offset;
}
