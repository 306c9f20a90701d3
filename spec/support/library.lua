--- What specs need that Lua does not have: shared libraries from the C files beside this one.
local library = {}

--- Builds one, unless it is there.
-- @tparam string name of the C file, without its ending
-- @treturn string the library's path
function library.build(name)
  local path = "build/spec/" .. name .. ".so"
  assert(os.execute("make --no-print-directory --silent BUILD=build " .. path))
  return path
end

--- Builds and loads one.
-- @treturn what its `luaopen_` function returns
function library.load(name)
  return assert(package.loadlib(library.build(name), "luaopen_" .. name))()
end

--- Builds one that a process is to have before all others: the value of its LD_PRELOAD, behind a sanitizer's.
function library.preload(name)
  return (os.getenv "LD_PRELOAD" or "") .. " " .. library.build(name)
end

return library
