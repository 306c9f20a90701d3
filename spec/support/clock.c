/* Loaded before all others, lets a spec set the wall's clock of a process, and start its system anew. CLOCK_SET names a
 * file, whose text is the milliseconds that this clock is ahead of the true one. CLOCK_BOOT names a file, whose text is
 * the true uptime in milliseconds at which the process's system was started; it is the id of that start, too. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The system call that fills a struct timespec of this width. */
#ifdef SYS_clock_gettime64
enum { GETTIME = sizeof(time_t) > sizeof(long) ? SYS_clock_gettime64 : SYS_clock_gettime };
#else
enum { GETTIME = SYS_clock_gettime };
#endif

int open(const char *path, int flags, ...) {
  const char *boot = getenv("CLOCK_BOOT");
  va_list more;
  va_start(more, flags);
  int mode = (flags & O_CREAT) != 0 ? va_arg(more, int) : 0;
  va_end(more);
  if (boot != NULL && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0) path = boot;
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

static long long read_number(const char *name) {
  const char *path = getenv(name);
  char text[32] = "";
  int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  if (read(fd, text, sizeof text - 1) < 0) text[0] = '\0';
  close(fd);
  return strtoll(text, NULL, 10);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  if (syscall(GETTIME, clock, time) != 0) return -1;
  if (clock == CLOCK_REALTIME) time->tv_sec += read_number("CLOCK_SET") / 1000;
  if (clock != CLOCK_BOOTTIME) return 0;
  long long boot = read_number("CLOCK_BOOT");
  time->tv_sec -= boot / 1000;
  time->tv_nsec -= boot % 1000 * 1000000;
  if (time->tv_nsec < 0) {
    time->tv_nsec += 1000000000;
    time->tv_sec--;
  }
  return 0;
}
