/* Secrets in what others say. */
#ifndef TB_SECRET_H
#define TB_SECRET_H

#include <stddef.h>

/* How many bytes of the text, from its beginning on, spell the secret: as it is, percent-encoded in part or in whole,
 * escaped as in JSON, or both of these. 0 when it begins with something else. */
size_t tb_secret_spelled(const char *text, size_t length, const char *secret, size_t secret_length);

#endif
