/* Memory that runs out, on purpose: preloaded, it stands before libc's allocator, so Lua, libcurl and the core share
 * one counter. As a Lua module it is told which allocation is to fail. */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

static bool counting, sticky;
static long count, fail_at; /* the allocation that fails; 0 for none */
static long live;           /* blocks */

/* Functions of libraries, NULL for none: no allocation fails that the first makes, or what it calls, however far down;
 * nor one that the second makes itself. */
static const char *spared_below, *spared_in;

/* Whether an address is in a library's function. dladdr looks through thousands of names: what it has found is kept. */
static bool is_of(void *address, const char *function) {
  static struct {
    void *address;
    const char *function;
  } known[4096];
  size_t at = (uintptr_t)address % (sizeof known / sizeof *known);
  if (known[at].address != address) {
    Dl_info found;
    known[at].function = dladdr(address, &found) != 0 ? found.dli_sname : NULL;
    known[at].address = address;
  }
  return known[at].function != NULL && strcmp(known[at].function, function) == 0;
}

static bool is_spared(void *caller) {
  if (spared_in != NULL && is_of(caller, spared_in)) return true;
  if (spared_below == NULL) return false;
  enum { DEEPEST = 100 };
  void *frames[DEEPEST];
  counting = false; /* backtrace may allocate */
  int depth = backtrace(frames, DEEPEST);
  counting = true;
  for (int i = 0; i < depth; i++) {
    if (is_of(frames[i], spared_below)) return true;
  }
  return false;
}

/* Whether the allocation that `caller` asks for is to fail. */
static bool fails(void *caller) {
  if (!counting) return false;
  count++;
  if (fail_at == 0 || (sticky ? count < fail_at : count != fail_at)) return false;
  if (is_spared(caller)) return false;
  errno = ENOMEM;
  return true;
}

static void *counted(void *block) {
  if (block != NULL) __atomic_add_fetch(&live, 1, __ATOMIC_RELAXED);
  return block;
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t size) {
  return fails(CALLER) ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t number, size_t size) {
  return fails(CALLER) ? NULL : counted(__libc_calloc(number, size));
}

void *realloc(void *block, size_t size) {
  if (size == 0) { /* frees, as Lua and curl expect it to */
    if (block != NULL) __atomic_sub_fetch(&live, 1, __ATOMIC_RELAXED);
    return __libc_realloc(block, size);
  }
  if (fails(CALLER)) return NULL;
  void *moved = __libc_realloc(block, size);
  return block == NULL ? counted(moved) : moved;
}

int posix_memalign(void **block, size_t alignment, size_t size) {
  if (fails(CALLER)) return ENOMEM;
  *block = counted(__libc_memalign(alignment, size));
  return *block == NULL ? ENOMEM : 0;
}

void free(void *block) {
  if (block != NULL) __atomic_sub_fetch(&live, 1, __ATOMIC_RELAXED);
  __libc_free(block);
}

/* attempt(n, from_then_on, f, below, in): calls f while the n-th allocation fails, or none when n is 0; `below` and
 * `in` name what is spared. Returns how many there were, whether f returned, and the first two of its results, or its
 * error.
 */
static int attempt(lua_State *L) {
  fail_at = (long)luaL_checkinteger(L, 1);
  sticky = lua_toboolean(L, 2);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  spared_below = luaL_optstring(L, 4, NULL); /* strings of the caller's, who holds them meanwhile */
  spared_in = luaL_optstring(L, 5, NULL);
  lua_settop(L, 3);
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  count = 0;
  counting = true;
  int status = lua_pcall(L, 0, 2, 0);
  counting = false;
  lua_settop(L, 4);
  lua_pushinteger(L, count);
  lua_pushboolean(L, status == LUA_OK);
  lua_rotate(L, 3, 2);
  return 4;
}

/* pause(true) and pause(false): around what cannot stand it. */
static int pause_counting(lua_State *L) {
  static bool was;
  if (lua_toboolean(L, 1)) {
    was = counting;
    counting = false;
  } else {
    counting = was;
  }
  return 0;
}

static int live_blocks(lua_State *L) {
  lua_pushinteger(L, live);
  return 1;
}

/* How many of this process's descriptors are open; without memory. */
static int open_descriptors(lua_State *L) {
  int open = 0;
  for (int fd = 0; fd < 256; fd++) open += fcntl(fd, F_GETFD) >= 0;
  lua_pushinteger(L, open);
  return 1;
}

int luaopen_oom(lua_State *L);

int luaopen_oom(lua_State *L) {
  static const luaL_Reg functions[] = {{"attempt", attempt},
                                       {"pause", pause_counting},
                                       {"live", live_blocks},
                                       {"descriptors", open_descriptors},
                                       {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
