/* When memory runs out. */
#ifndef TB_MEMORY_H
#define TB_MEMORY_H

/* What to raise then: the same text as Lua raises, so that it can be recognised. */
#define TB_NO_MEMORY "not enough memory"

#endif
