/* The monotonic clock, for waiting. */
#ifndef TB_CLOCK_H
#define TB_CLOCK_H

#include <stdint.h>

#define TB_SECOND INT64_C(1000000) /* in microseconds */

/* Microseconds since a fixed but unknown moment; never goes back. */
int64_t tb_monotonic(void);

#endif
