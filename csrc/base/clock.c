#include "base/clock.h"

#include <time.h>

int64_t tb_monotonic(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * TB_SECOND + time.tv_nsec / 1000;
}
