#include "http/redact.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

/* The number of so many hexadecimal digits; -1 when there are others. */
static int hexadecimal(const char *text, const char *end, int digits) {
  int number = 0;
  if (end - text < digits) return -1;
  for (int i = 0; i < digits; i++) {
    unsigned char digit = (unsigned char)text[i];
    if (!isxdigit(digit)) return -1;
    number = number << 4 | (isdigit(digit) ? digit - '0' : tolower(digit) - 'a' + 10);
  }
  return number;
}

/* Writes a character of 16 bits as UTF-8; returns how many bytes. */
static size_t to_utf8(int code, char *bytes) {
  size_t count = code < 0x80 ? 1 : code < 0x800 ? 2 : 3;
  static const unsigned char firsts[] = {0, 0, 0xC0, 0xE0};
  for (size_t i = count; i-- > 1; code >>= 6) bytes[i] = (char)(0x80 | (code & 0x3F));
  bytes[0] = (char)(firsts[count] | code);
  return count;
}

/* A text is encoded in a way or it is not, from one end to the other: what looks like an escape is one, or none is. */
static const char *spelled(const char *text, const char *end, const char *secret, size_t left, bool percent,
                           bool json) {
  while (left > 0) {
    char bytes[3];
    size_t count = 1;
    int code;
    if (text == end) return NULL;
    if (percent && *text == '%' && (code = hexadecimal(text + 1, end, 2)) >= 0) {
      bytes[0] = (char)code;
      text += 3;
    } else if (json && *text == '\\' && end - text > 1) {
      if (text[1] == 'u' && (code = hexadecimal(text + 2, end, 4)) >= 0) {
        count = to_utf8(code, bytes);
        text += 6;
      } else {
        bytes[0] = text[1];
        text += 2;
      }
    } else {
      bytes[0] = *text++;
    }
    if (count > left || memcmp(secret, bytes, count) != 0) return NULL;
    secret += count;
    left -= count;
  }
  return text;
}

size_t tb_secret_spelled(const char *text, size_t length, const char *secret, size_t secret_length) {
  if (length == 0 || (*text != *secret && *text != '%' && *text != '\\')) return 0;
  for (int way = 0; way < 4; way++) {
    const char *end = spelled(text, text + length, secret, secret_length, way & 1, way & 2);
    if (end != NULL) return (size_t)(end - text);
  }
  return 0;
}
