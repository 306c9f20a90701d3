#include "json/number.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A positive number: digits * 10^-decimals. */
struct decimal {
  uint64_t digits;
  int decimals;
};

static const double TWO_53 = 9007199254740992.0, TWO_63 = 9223372036854775808.0;

/* 5^27 is the last that fits 64 bits. */
enum { MOST_FIVES = 27, MOST_HALVINGS = 89, KEPT_DECIMALS = 16 };
static const uint64_t FIVES[MOST_FIVES + 1] = {
    1,
    5,
    25,
    125,
    625,
    3125,
    15625,
    78125,
    390625,
    1953125,
    9765625,
    48828125,
    244140625,
    1220703125,
    6103515625,
    30517578125,
    152587890625,
    762939453125,
    3814697265625,
    19073486328125,
    95367431640625,
    476837158203125,
    2384185791015625,
    11920928955078125,
    59604644775390625,
    298023223876953125,
    1490116119384765625,
    7450580596923828125,
};

static const char PAIRS[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                            "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                            "8081828384858687888990919293949596979899";

static size_t count_digits(uint64_t value) {
  for (size_t count = 1;; count += 4, value /= 10000) {
    if (value < 10) return count;
    if (value < 100) return count + 1;
    if (value < 1000) return count + 2;
    if (value < 10000) return count + 3;
  }
}

/* Writes the digits of `value`; returns how many. */
static size_t write_digits(uint64_t value, char *out) {
  size_t count = count_digits(value), at = count;
  while (value >= 100) {
    at -= 2;
    memcpy(out + at, PAIRS + value % 100 * 2, 2);
    value /= 100;
  }
  if (at == 2) {
    memcpy(out, PAIRS + value * 2, 2);
  } else {
    *out = (char)('0' + value);
  }
  return count;
}

size_t tb_number_integer(int64_t value, char *out) {
  if (value >= 0) return write_digits((uint64_t)value, out);
  *out = '-';
  return 1 + write_digits(0 - (uint64_t)value, out + 1);
}

static uint64_t multiply(uint64_t a, uint64_t b, uint64_t *high) {
#ifdef __SIZEOF_INT128__
  __extension__ unsigned __int128 product = (unsigned __int128)a * b;
  *high = (uint64_t)(product >> 64);
  return (uint64_t)product;
#else
  uint64_t al = a & UINT32_MAX, ah = a >> 32, bl = b & UINT32_MAX, bh = b >> 32;
  uint64_t low = al * bl, middle = ah * bl + (low >> 32), crossed = al * bh + (middle & UINT32_MAX);
  *high = ah * bh + (middle >> 32) + (crossed >> 32);
  return crossed << 32 | (low & UINT32_MAX);
#endif
}

/* a * b / 2^shift, which must fit 64 bits, rounded to odd: the lowest bit is set when anything was cut off, so that it
 * compares with even numbers as the exact quotient would (Boldo and Melquiond, "Emulation of a FMA and correctly
 * rounded sums: proved algorithms using rounding to odd", IEEE Transactions on Computers 57, 2008). */
static uint64_t scale(uint64_t a, uint64_t b, unsigned shift) {
  uint64_t high, cut = 0;
  uint64_t low = multiply(a, b, &high);
  if (shift >= 64) {
    cut = low;
    low = high;
    high = 0;
    shift -= 64;
  }
  if (shift > 0) {
    cut |= low << (64 - shift);
    low = low >> shift | high << (64 - shift);
  }
  return low | (cut != 0);
}

/* A positive double is mantissa / 2^halvings; halvings is negative for the large ones. */
static uint64_t take_apart(double value, int *halvings) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  int exponent = (int)(bits >> 52 & 0x7FF);
  uint64_t mantissa = bits & ((UINT64_C(1) << 52) - 1);
  *halvings = exponent == 0 ? 1074 : 1075 - exponent;
  return exponent == 0 ? mantissa : mantissa | UINT64_C(1) << 52;
}

static struct decimal without_zeros(struct decimal number) {
  while (number.digits % 10 == 0 && number.digits != 0) {
    number.digits /= 10;
    number.decimals--;
  }
  return number;
}

/* One to three decimals, as most readings have. A quotient of two exact doubles is the double that its decimal text
 * reads back as; below 2^50 no second text of as many decimals does. */
static bool shortest_by_division(double value, struct decimal *result) {
  if (value >= 1e12) return false;
  static const double POWERS[] = {1, 10, 100, 1000};
  for (int decimals = 1; decimals <= 3; decimals++) {
    int64_t digits = (int64_t)(value * POWERS[decimals] + 0.5);
    if ((double)digits / POWERS[decimals] == value) {
      *result = (struct decimal){(uint64_t)digits, decimals};
      return true;
    }
  }
  return false;
}

/* The numbers that read back as a double, and the double itself: in quarters of a unit of 10^-n, so that the midpoints
 * to its neighbours are whole. */
struct interval {
  uint64_t low, value, high;
};

static bool contains(const struct interval *interval, uint64_t units) {
  return interval->low <= 4 * units && 4 * units <= interval->high;
}

static bool is_nearer_to_the_next(const struct interval *interval, uint64_t units) {
  uint64_t middle = 2 * (units + units + 1);
  return interval->value > middle || (interval->value == middle && units % 2 == 1);
}

/* The shortest by exact integers, in the range that sensors use: Schubfach (Raffaello Giulietti, "The Schubfach way to
 * render doubles", 2020). A unit is the largest power of ten that is not above the distance of the neighbours. So the
 * interval has one multiple of ten units at most, which is shorter than all others in it, and otherwise one of the two
 * units around the value. */
static bool shortest_by_schubfach(double value, struct decimal *result) {
  int halvings;
  uint64_t mantissa = take_apart(value, &halvings);
  if (halvings < 1 || halvings > MOST_HALVINGS) return false;
  bool power = mantissa == UINT64_C(1) << 52; /* of two: the neighbour below is half as far as the one above */
  int n = (halvings * 1233 + (power ? 512 : 0)) / 4096 + 1; /* log10(2) is 1233 / 4096, log10(4/3) 512 / 4096 */
  unsigned shift = (unsigned)(halvings - n);
  uint64_t odd = mantissa & 1; /* the midpoints themselves read back as the even neighbour */
  const struct interval interval = {
      .low = scale(4 * mantissa - (power ? 1 : 2), FIVES[n], shift) + odd,
      .value = scale(4 * mantissa, FIVES[n], shift),
      .high = scale(4 * mantissa + 2, FIVES[n], shift) - odd,
  };
  uint64_t below = interval.value / 4, ten = below / 10 * 10;
  if (contains(&interval, ten) != contains(&interval, ten + 10)) {
    *result = without_zeros((struct decimal){contains(&interval, ten) ? ten : ten + 10, n});
    return true;
  }
  bool both = contains(&interval, below) == contains(&interval, below + 1);
  bool next = both ? is_nearer_to_the_next(&interval, below) : contains(&interval, below + 1);
  *result = without_zeros((struct decimal){below + next, n});
  return true;
}

/* The shortest of any positive double, by the C library; of a few powers of two, one digit more. Its decimal point is
 * whatever the locale says: skipped. */
static struct decimal shortest_by_trying(double value) {
  char text[64];
  /* Fifteen digits always survive, so nothing shorter need be tried; but subnormal doubles have fewer. */
  for (int precision = value < DBL_MIN ? 0 : 14; precision <= 16; precision++) {
    (void)snprintf(text, sizeof text, "%.*e", precision, value);
    if (precision == 16 || strtod(text, NULL) == value) break;
  }
  struct decimal result = {0, -1};
  const char *at = text;
  for (; *at != 'e'; at++) {
    if (*at < '0' || *at > '9') continue;
    result.digits = result.digits * 10 + (uint64_t)(*at - '0');
    result.decimals++;
  }
  result.decimals -= (int)strtol(at + 1, NULL, 10);
  return without_zeros(result);
}

static struct decimal shortest(double value) {
  struct decimal result;
  if (shortest_by_division(value, &result) || shortest_by_schubfach(value, &result)) return result;
  return shortest_by_trying(value);
}

/* A positive double below 1 in units of 10^-16, rounded, a half to the even one. */
static uint64_t in_last_units(double value) {
  int halvings;
  uint64_t mantissa = take_apart(value, &halvings);
  int shift = halvings - KEPT_DECIMALS; /* 37 at least */
  uint64_t quarters = shift > 120 ? 0 : scale(mantissa, FIVES[KEPT_DECIMALS], (unsigned)shift - 2);
  return (quarters + 1 + (quarters / 4 & 1)) / 4;
}

/* The shortest of a positive number that is not whole, or, where that has more than 16 decimals, the nearest that has
 * not. Below 0.1 those are 15 digits at most, so they are the shortest ones too where they read back as the same. */
static enum tb_number_fault take_decimals(double value, struct decimal *result) {
  if (shortest_by_division(value, result)) return TB_NUMBER_OK;
  if (value >= 0.1) {
    *result = shortest(value);
    if (result->decimals <= KEPT_DECIMALS) return TB_NUMBER_OK;
  }
  *result = (struct decimal){in_last_units(value), KEPT_DECIMALS};
  double exact = value * 1e16;
  if (fabs((double)result->digits - exact) * 2e6 > exact) return TB_NUMBER_TINY;
  if (result->digits < 10) return TB_NUMBER_LAST16;
  *result = without_zeros(*result);
  return TB_NUMBER_OK;
}

/* A number with one decimal at least. */
static size_t write_plain(struct decimal number, char *out) {
  size_t count = count_digits(number.digits), decimals = (size_t)number.decimals;
  if (count <= decimals) {
    out[0] = '0';
    out[1] = '.';
    memset(out + 2, '0', decimals - count);
    return 2 + decimals - count + write_digits(number.digits, out + 2 + decimals - count);
  }
  /* One place too far to the right, so that what stands before the point moves left. */
  write_digits(number.digits, out + 1);
  for (size_t i = 0; i < count - decimals; i++) out[i] = out[i + 1];
  out[count - decimals] = '.';
  return count + 1;
}

static size_t write_scientific(struct decimal number, char *out) {
  char digits[20];
  size_t count = write_digits(number.digits, digits);
  char *at = out;
  *at++ = digits[0];
  if (count > 1) {
    *at++ = '.';
    memcpy(at, digits + 1, count - 1);
    at += count - 1;
  }
  *at++ = 'e';
  at += tb_number_integer((int64_t)count - 1 - number.decimals, at);
  return (size_t)(at - out);
}

static size_t write_whole(double value, char *out) {
  size_t count = write_digits((uint64_t)value, out);
  out[count] = '.';
  out[count + 1] = '0';
  return count + 2;
}

enum tb_number_fault tb_number_top(double value, char *out, size_t *length) {
  double size = fabs(value);
  char *at = out;
  if (!(size < TWO_63)) return isnan(value) ? TB_NUMBER_NAN : isinf(value) ? TB_NUMBER_INFINITE : TB_NUMBER_HUGE;
  if (signbit(value)) *at++ = '-';
  if (size == (double)(uint64_t)size) {
    *length = (size_t)(at - out) + (size > TWO_53 ? write_digits((uint64_t)size, at) : write_whole(size, at));
    return TB_NUMBER_OK;
  }
  struct decimal number;
  enum tb_number_fault fault = take_decimals(size, &number);
  if (fault == TB_NUMBER_OK) *length = (size_t)(at - out) + write_plain(number, at);
  return fault;
}

enum { MOST_DIGITS = 17 }; /* of a double */

/* Reads digits with one point in them; false for any other text. */
static bool read_decimal(const char *text, size_t length, struct decimal *result, size_t *significant, int *decimals) {
  size_t zeros = 0; /* since the last digit that is none */
  bool point = false;
  *result = (struct decimal){0, 0};
  *significant = 0;
  *decimals = 0;
  for (size_t i = text[0] == '-'; i < length; i++) {
    if (text[i] == '.' && !point && i + 1 < length) {
      point = true;
      continue;
    }
    if (text[i] < '0' || text[i] > '9') return false;
    if (point && ++*decimals > KEPT_DECIMALS) return true; /* more is not read by the server either */
    if (text[i] == '0') {
      zeros += *significant > 0;
      continue;
    }
    *significant += zeros + 1;
    for (size_t place = 0; place <= zeros && *significant <= MOST_DIGITS; place++) result->digits *= 10;
    zeros = 0;
    if (*significant <= MOST_DIGITS) result->digits += (uint64_t)(text[i] - '0');
    result->decimals = *decimals;
  }
  return point;
}

bool tb_number_text_is_kept(const char *text, size_t length, double value) {
  struct decimal said;
  size_t significant;
  int decimals;
  if (!read_decimal(text, length, &said, &significant, &decimals)) return true;
  if (significant == 0 || decimals > KEPT_DECIMALS) return true; /* zero; it stays text */
  value = fabs(value);
  if (value >= TWO_53 || significant > MOST_DIGITS) return false;
  if (said.decimals == 0) return true;
  if (value == floor(value) || (said.decimals == KEPT_DECIMALS && said.digits < 10)) return false;
  struct decimal stored = without_zeros(shortest(value));
  return stored.digits == said.digits && stored.decimals == said.decimals;
}

enum tb_number_fault tb_number_nested(double value, char *out, size_t *length) {
  double size = fabs(value);
  char *at = out;
  if (isnan(value)) return TB_NUMBER_NAN;
  if (isinf(value)) return TB_NUMBER_INFINITE;
  if (signbit(value)) *at++ = '-';
  if (size < TWO_63 && size == (double)(uint64_t)size) {
    at += write_whole(size, at);
  } else if (size < TWO_63 && size >= 1e-5) {
    at += write_plain(shortest(size), at);
  } else {
    at += write_scientific(shortest(size), at);
  }
  *length = (size_t)(at - out);
  return TB_NUMBER_OK;
}
