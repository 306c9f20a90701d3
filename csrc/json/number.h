/* Numbers as decimal text: the digits that the server stores as the number that the script had. */
#ifndef TB_NUMBER_H
#define TB_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TB_NUMBER_ROOM = 32 }; /* bytes that any number's text fits in */

enum tb_number_fault {
  TB_NUMBER_OK,
  TB_NUMBER_NAN,
  TB_NUMBER_INFINITE,
  TB_NUMBER_HUGE,   /* 2^63 or more: the server would make it a string */
  TB_NUMBER_TINY,   /* 16 decimals would change it by more than one part in two million */
  TB_NUMBER_LAST16, /* one digit, at the 16th decimal: the server would make it a string */
};

/* Writes an integer's digits; returns how many bytes. */
size_t tb_number_integer(int64_t value, char *out);

/* Writes a float as the value of a telemetry or attribute key: with a point, without an exponent, at most 16 decimals.
 * Beyond 2^53 the server would store a different integer for a text with a point, so there it has none.
 * *length is set when TB_NUMBER_OK is returned, and only then. */
enum tb_number_fault tb_number_top(double value, char *out, size_t *length);

/* Whether the server keeps what a text says, `value`, when it takes the text for a number: digits with a point that its
 * double has not are lost. True for text that it does not take for a number. */
bool tb_number_text_is_kept(const char *text, size_t length, double value);

/* Writes a float as a part of a nested value, whose text the server keeps: the shortest digits that read back as the
 * same double, with a point or an exponent, so that it stays a float. Refuses NaN and infinities only. */
enum tb_number_fault tb_number_nested(double value, char *out, size_t *length);

#endif
