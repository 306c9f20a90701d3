/* Redaction: no text that a person may read shows a secret. */
#ifndef TB_REDACT_H
#define TB_REDACT_H

#include <lua.h>
#include <stddef.h>

/* Pushes the text with `***` in the place of every secret in the list at the index `secrets`. A secret is found as it
 * is, percent-encoded in part or in whole, escaped as in JSON, or both. */
void tb_redact(lua_State *L, int secrets, const char *text, size_t length);

#endif
