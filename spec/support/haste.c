/* Loaded before all others, lets a process live faster: HASTE names a file, whose text is the number of seconds that
 * pass in it while one passes outside. Its clocks run so fast, and what waits in epoll waits shorter. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { NANOSECONDS = 1000000000 };

/* The system call that fills a struct timespec of this width. */
#ifdef SYS_clock_gettime64
enum { GETTIME = sizeof(time_t) > sizeof(long) ? SYS_clock_gettime64 : SYS_clock_gettime };
#else
enum { GETTIME = SYS_clock_gettime };
#endif

static int64_t true_time(clockid_t clock) {
  struct timespec time;
  syscall(GETTIME, clock, &time);
  return (int64_t)time.tv_sec * NANOSECONDS + time.tv_nsec;
}

static int64_t factor(void) {
  const char *path = getenv("HASTE");
  char text[32] = "";
  int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 1;
  ssize_t count = read(fd, text, sizeof text - 1);
  close(fd);
  int64_t value = count > 0 ? strtoll(text, NULL, 10) : 1;
  return value > 0 ? value : 1;
}

/* How far this process is ahead of the others. */
static int64_t lead(void) {
  static int64_t last, ahead;
  int64_t now = true_time(CLOCK_MONOTONIC);
  if (last != 0) ahead += (now - last) * (factor() - 1);
  last = now;
  return ahead;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  int64_t now = true_time(clock);
  if (clock != CLOCK_PROCESS_CPUTIME_ID && clock != CLOCK_THREAD_CPUTIME_ID) now += lead();
  time->tv_sec = (time_t)(now / NANOSECONDS);
  time->tv_nsec = (long)(now % NANOSECONDS);
  return 0;
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int milliseconds) {
  int64_t times = factor();
  int shorter = milliseconds <= 0 ? milliseconds : (int)((milliseconds + times - 1) / times);
  return (int)syscall(SYS_epoll_pwait, epoll, events, most, shorter, NULL, 8);
}
