#include "base/fork.h"

#include "base/memory.h"

#include <lauxlib.h>
#include <pthread.h>
#include <stdbool.h>

static unsigned forks;

static void count(void) {
  forks++;
}

void tb_count_forks(lua_State *L) {
  static bool counting;
  if (!counting && pthread_atfork(NULL, NULL, count) != 0) luaL_error(L, TB_NO_MEMORY);
  counting = true;
}

unsigned tb_forks(void) {
  return forks;
}
