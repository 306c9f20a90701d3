# For the scripts beside this one: builds each part of a stack once, and the parts that all stacks have.
# They set `sources`, the folder of the sources; `stack`, that of what is built; `cc`, `flags` and `lua_include`.

# once PART [SOURCE]: runs build_PART in a copy of the source, unless it has been built. Its output goes to a file.
once() {
  [ -f "$stack/built/$1" ] && return
  echo "  BUILD $stack/$1"
  mkdir -p "$stack/built" "$stack/trees"
  rm -rf "$stack/trees/$1"
  cp -r "$sources/${2:-$1}" "$stack/trees/$1"
  set +e # or the subshell would go on after what fails
  (set -e; cd "$stack/trees/$1"; "build_$(echo "$1" | tr -cd a-z0-9)") >"$stack/trees/$1.log" 2>&1
  status=$?
  set -e
  if [ $status != 0 ]; then
    tail -n 40 "$stack/trees/$1.log" >&2
    echo "$1 failed: $stack/trees/$1.log" >&2
    exit 1
  fi
  touch "$stack/built/$1"
}

# module FILE SOURCE...: a module of Lua's in C.
module() {
  out=$stack/modules/$1
  shift
  mkdir -p "$(dirname "$out")"
  $cc $flags -w -I"$lua_include" -shared -fPIC -o "$out" "$@"
}

build_luacjson() { module cjson.so lua_cjson.c strbuf.c fpconv.c; }

# What busted needs besides.
build_luafilesystem() {
  sed -i 's/LUA_VERSION_NUM <= 504/LUA_VERSION_NUM <= 505/' src/lfs.c
  module lfs.so src/lfs.c
}

build_luasocket() {
  cd src
  common="buffer.c auxiliar.c options.c timeout.c io.c usocket.c compat.c"
  module socket/core.so luasocket.c $common inet.c except.c select.c tcp.c udp.c
  module socket/unix.so $common unix.c unixstream.c unixdgram.c
  module mime/core.so mime.c compat.c
}
