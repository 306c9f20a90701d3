/* The error message when memory has run out. */
#ifndef TB_MEMORY_H
#define TB_MEMORY_H

/* The text that Lua itself raises, so that callers recognise both alike. */
#define TB_NO_MEMORY "not enough memory"

#endif
