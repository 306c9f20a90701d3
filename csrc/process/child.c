#include "process/child.h"

#include "base/userdata.h"
#include "process/poller.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FIRST_INHERITED = 3, MOST_DESCRIPTORS = 65536 };

static const char TB_CHILD[] = "thingsboard.child";

struct tb_child {
  const char *type;
  pid_t pid; /* 0 before it is started, and once it has been waited for */
  int pidfd; /* readable when it has ended; -1 where the system has none */
  int input; /* our ends of its standard input and output; -1 once closed */
  int output;
  bool detached; /* goes on when this object is closed */
  int status;    /* as of waitpid, once pid is 0 */
};

static void close_one(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

/* A pipe whose ends are none of the three standard descriptors, though those may be closed here. */
static bool make_pipe(int ends[2]) {
  int made[2];
  ends[0] = ends[1] = -1;
  if (pipe2(made, O_CLOEXEC) != 0) return false;
  for (int i = 0; i < 2; i++) ends[i] = fcntl(made[i], F_DUPFD_CLOEXEC, FIRST_INHERITED);
  int error = errno;
  close(made[0]);
  close(made[1]);
  if (ends[0] >= 0 && ends[1] >= 0) return true;
  close_one(&ends[0]);
  close_one(&ends[1]);
  errno = error;
  return false;
}

/* Closes in the child all that this process has open, close-on-exec or not. */
static void inherit_nothing(void) {
#ifdef SYS_close_range
  const unsigned close_on_exec = 1U << 2;
  if (syscall(SYS_close_range, (unsigned)FIRST_INHERITED, UINT32_MAX, close_on_exec) == 0) return;
#endif
  long most = sysconf(_SC_OPEN_MAX);
  if (most < 0 || most > MOST_DESCRIPTORS) most = MOST_DESCRIPTORS;
  for (int fd = FIRST_INHERITED; fd < (int)most; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* In the child: becomes the program, or tells why not. Its group is its own, so that all of it can be ended. */
static _Noreturn void become(char *const *arguments, const char *directory, int input, int output, int failure) {
  sigset_t none;
  sigemptyset(&none);
  setpgid(0, 0);
  (void)signal(SIGPIPE, SIG_DFL);
  (void)signal(SIGXFSZ, SIG_DFL);
  pthread_sigmask(SIG_SETMASK, &none, NULL);
  if (dup2(input, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0 &&
      (directory == NULL || chdir(directory) == 0)) {
    inherit_nothing();
    execvp(arguments[0], arguments);
  }
  int error = errno;
  ssize_t written = write(failure, &error, sizeof error);
  (void)written;
  _exit(127);
}

/* Starts the program; 0, or the errno of what went wrong. */
static int start(struct tb_child *child, char *const *arguments, const char *directory) {
  int input[2] = {-1, -1}, output[2] = {-1, -1}, failure[2] = {-1, -1}, error = 0;
  pid_t pid = -1;
  if (make_pipe(input) && make_pipe(output) && make_pipe(failure)) pid = fork();
  if (pid < 0) error = errno;
  if (pid == 0) become(arguments, directory, input[0], output[1], failure[1]);
  close_one(&input[0]);
  close_one(&output[1]);
  close_one(&failure[1]);
  if (pid > 0) {
    ssize_t count;
    do count = read(failure[0], &error, sizeof error);
    while (count < 0 && errno == EINTR);
    if (count != (ssize_t)sizeof error) error = 0; /* closed by exec */
    if (error != 0) waitpid(pid, NULL, 0);
  }
  close_one(&failure[0]);
  if (error != 0) {
    close_one(&input[1]);
    close_one(&output[0]);
    return error;
  }
  child->pid = pid;
  child->input = input[1];
  child->output = output[0];
  fcntl(child->input, F_SETFL, O_NONBLOCK);
  fcntl(child->output, F_SETFL, O_NONBLOCK);
#ifdef SYS_pidfd_open
  child->pidfd = (int)syscall(SYS_pidfd_open, pid, 0U); /* close-on-exec by itself */
#endif
  return 0;
}

static struct tb_child *check_child(lua_State *L) {
  return tb_check(L, 1, TB_CHILD, sizeof(struct tb_child));
}

/*** Starts a program. No shell is involved. It inherits no open descriptor but the standard error.
@function spawn
@tparam table arguments strings; the first is the program, looked for in `PATH` when it holds no slash
@tparam ?string directory where it runs
@tparam ?boolean detached it goes on when the child is closed or collected, which ends it otherwise
@treturn[1] userdata the child
@treturn[2] nil
@treturn[2] string why it cannot be started */
static int child_spawn(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  const char *directory = luaL_optstring(L, 2, NULL);
  bool detached = lua_toboolean(L, 3);
  lua_settop(L, 3);
  lua_Unsigned listed = lua_rawlen(L, 1);
  if (listed == 0 || listed >= 1000) return luaL_argerror(L, 1, "a list of arguments expected");
  size_t count = (size_t)listed;
  luaL_checkstack(L, (int)count + 4, "too many arguments");
  struct tb_child *child = tb_new(L, TB_CHILD, sizeof *child, 0);
  child->pidfd = child->input = child->output = -1;
  child->detached = detached;
  char **arguments = lua_newuserdatauv(L, (count + 1) * sizeof *arguments, 0);
  for (size_t i = 0; i < count; i++) {
    size_t length;
    lua_rawgeti(L, 1, (lua_Integer)i + 1); /* stays on the stack: a number's text lives there */
    const char *text = lua_tolstring(L, -1, &length);
    luaL_argcheck(L, text != NULL && strlen(text) == length, 1, "every argument must be a string without NUL");
    memcpy(&arguments[i], &text, sizeof text); /* exec takes no const, and changes nothing */
  }
  arguments[count] = NULL;
  int error = start(child, arguments, directory);
  if (error != 0) {
    lua_pushnil(L);
    lua_pushfstring(L, "cannot run %s: %s", arguments[0], strerror(error));
    return 2;
  }
  lua_pushvalue(L, 4);
  return 1;
}

static int push_descriptor(lua_State *L, int fd) {
  if (fd < 0) return 0;
  lua_pushinteger(L, fd);
  return 1;
}

/*** The descriptor that is readable when the child has ended.
@function child:pidfd
@treturn ?integer nil where the system has none: ask `wait` now and then */
static int child_pidfd(lua_State *L) {
  return push_descriptor(L, check_child(L)->pidfd);
}

/*** The descriptor to write its standard input to.
@function child:input
@treturn ?integer not blocking; nil once closed */
static int child_input(lua_State *L) {
  return push_descriptor(L, check_child(L)->input);
}

/*** The descriptor to read its standard output from.
@function child:output
@treturn ?integer not blocking; nil once closed */
static int child_output(lua_State *L) {
  return push_descriptor(L, check_child(L)->output);
}

/*** Closes its standard input. Idempotent.
@function child:close_input */
static int child_close_input(lua_State *L) {
  close_one(&check_child(L)->input);
  return 0;
}

/* Waits for its end, which may be over; its group ends with it, unless it is detached. The group is killed first: until
 * the child has been waited for, no other process can have its number. */
static void reap(struct tb_child *child) {
  if (!child->detached) kill(-child->pid, SIGKILL);
  waitpid(child->pid, &child->status, 0);
  child->pid = 0;
}

/*** How it has ended. Does not wait. What it has started and left behind is killed, unless it is detached.
@function child:wait
@treturn[1] string `"exit"` or `"signal"`
@treturn[1] integer the exit code, or the signal's number
@treturn[2] nil it has not */
static int child_wait(lua_State *L) {
  struct tb_child *child = check_child(L);
  if (child->pid > 0) {
    siginfo_t ended = {0};
    int failed = waitid(P_PID, (id_t)child->pid, &ended, WEXITED | WNOHANG | WNOWAIT);
    if (failed == 0 && ended.si_pid == 0) return 0;
    if (failed == 0)
      reap(child);
    else
      child->pid = 0; /* the system has waited for it, as where SIGCHLD is ignored */
  }
  bool by_signal = WIFSIGNALED(child->status);
  lua_pushstring(L, by_signal ? "signal" : "exit");
  lua_pushinteger(L, by_signal ? WTERMSIG(child->status) : WEXITSTATUS(child->status));
  return 2;
}

/*** Sends a signal to it and to the processes that it has started, unless it has ended.
@function child:kill
@tparam string name as of `poller:catch`, or `"KILL"` */
static int child_kill(lua_State *L) {
  const struct tb_child *child = check_child(L);
  int number = strcmp(luaL_checkstring(L, 2), "KILL") == 0 ? SIGKILL : tb_check_signal(L, 2);
  if (child->pid > 0) kill(-child->pid, number);
  return 0;
}

/*** Closes its descriptors, and kills it unless it is detached. Idempotent.
@function child:close */
static int child_close(lua_State *L) {
  struct tb_child *child = check_child(L);
  close_one(&child->input);
  close_one(&child->output);
  close_one(&child->pidfd);
  if (child->pid > 0 && !child->detached) reap(child);
  return 0;
}

void tb_open_child(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"pidfd", child_pidfd}, {"input", child_input}, {"output", child_output}, {"close_input", child_close_input},
      {"wait", child_wait},   {"kill", child_kill},   {"close", child_close},   {NULL, NULL}};
  static const luaL_Reg metamethods[] = {{"__gc", child_close}, {"__close", child_close}, {NULL, NULL}};
  tb_new_type(L, TB_CHILD, methods, metamethods);
  lua_pushcfunction(L, child_spawn);
  lua_setfield(L, -2, "spawn");
}
