/* Loaded before all others, lets a spec set the wall's clock of a process: CLOCK_SET names a file, whose text is the
 * milliseconds that this clock is ahead of the true one. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The system call that fills a struct timespec of this width. */
#ifdef SYS_clock_gettime64
enum { GETTIME = sizeof(time_t) > sizeof(long) ? SYS_clock_gettime64 : SYS_clock_gettime };
#else
enum { GETTIME = SYS_clock_gettime };
#endif

int clock_gettime(clockid_t clock, struct timespec *time) {
  if (syscall(GETTIME, clock, time) != 0) return -1;
  const char *path = getenv("CLOCK_SET");
  if (clock != CLOCK_REALTIME || path == NULL) return 0;
  char text[32] = "";
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  if (read(fd, text, sizeof text - 1) > 0) time->tv_sec += strtoll(text, NULL, 10) / 1000;
  close(fd);
  return 0;
}
