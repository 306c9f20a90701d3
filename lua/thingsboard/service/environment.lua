--- The globals of a script: copies of Lua's own, so that nothing that one script changes shows in another. Modules in
-- Lua are loaded for each script anew; modules in C, and those of this library, are shared.
--
-- Methods of strings, as in `text:upper()`, are Lua's own for all scripts.
-- @module thingsboard.service.environment
local errors = require "thingsboard.error"

local environment = {}

local function copy(from)
  local new = {}
  for key, value in next, from do new[key] = value end
  return new
end

-- Coroutines of the script's that its guard watches.
local function guard_coroutines(own, guard)
  local create, wrap, running = coroutine.create, coroutine.wrap, coroutine.running
  function own.coroutine.create(body)
    local thread = create(body)
    guard:watch(thread)
    return thread
  end
  function own.coroutine.wrap(body)
    if type(body) ~= "function" then error("wrap: body must be a function, got " .. type(body), 2) end
    return wrap(function(...)
      guard:watch((running()))
      return body(...)
    end)
  end
  function own.debug.sethook() error("debug.sethook: the service has the hook", 2) end
end

-- Lua calls two kinds of functions without the hook: handlers of the hook's error, and finalizers. The former are not
-- called, the latter get a coroutine of their own.
local function guard_handlers(own, guard)
  function own.xpcall(body, handler, ...)
    return xpcall(body, function(raised)
      if guard.why then return raised end
      return handler(raised)
    end, ...)
  end
  local guarded = setmetatable({}, { __mode = "k" })
  function own.setmetatable(object, meta)
    local finalize = type(meta) == "table" and rawget(meta, "__gc")
    if type(finalize) == "function" and not guarded[finalize] then
      meta.__gc = function(...)
        local thread = coroutine.create(finalize)
        local now = guard.why and guard:afresh() or guard
        now:watch(thread)
        local ok, raised = coroutine.resume(thread, ...)
        if not ok then error(raised, 0) end
      end
      guarded[meta.__gc] = true
    end
    return setmetatable(object, meta)
  end
end

-- What loads code: it gets the script's globals.
local function own_chunks(own)
  function own.load(chunk, name, mode, ...)
    local in_place = own
    if select("#", ...) > 0 then in_place = ... end
    return load(chunk, name, mode, in_place)
  end
  function own.loadfile(path, mode, ...)
    local in_place = own
    if select("#", ...) > 0 then in_place = ... end
    return loadfile(path, mode, in_place)
  end
  function own.dofile(path)
    local chunk, reason = loadfile(path, "bt", own)
    if not chunk then error(reason, 2) end
    return chunk()
  end
end

-- Finds and loads a module in Lua for the script alone. `require` is gone when it runs, as its last call: an error's
-- level 2 is the script.
local function load_module(own, name, path)
  local chunk = own.package.preload[name]
  if not chunk then
    local reason
    chunk, reason = loadfile(path, "bt", own)
    if not chunk then error(("error loading module '%s' from file '%s':\n\t%s"):format(name, path, reason), 2) end
  end
  local loaded = own.package.loaded
  local value = chunk(name, path)
  if value ~= nil then loaded[name] = value elseif loaded[name] == nil then loaded[name] = true end
  return loaded[name], path
end

-- A module that all scripts share; `require` is gone here, too.
local function require_shared(own, name)
  local before = package.cpath
  package.cpath = own.package.cpath
  local result = table.pack(pcall(require, name))
  package.cpath = before
  if not result[1] then error(errors.text_of(result[2]), 2) end
  own.package.loaded[name] = result[2]
  return table.unpack(result, 2, result.n)
end

local function own_modules(own, library)
  local loaded = { _G = own, thingsboard = library }
  for name, value in next, own do
    if type(value) == "table" and package.loaded[name] then loaded[name] = value end
  end
  own.package = {
    loaded = loaded, preload = {}, config = package.config, path = package.path, cpath = package.cpath,
    searchpath = package.searchpath, loadlib = package.loadlib,
  }
  loaded.package = own.package
  function own.require(name)
    if type(name) ~= "string" then error("require: a module's name expected, got " .. type(name), 2) end
    if loaded[name] ~= nil then return loaded[name] end
    local path = not name:find "^thingsboard%." and package.searchpath(name, own.package.path) or nil
    if path or own.package.preload[name] then return load_module(own, name, path) end
    return require_shared(own, name)
  end
end

--- The globals for a run of a script.
-- @tparam table library what `require "thingsboard"` is to return
-- @tparam table guard see `thingsboard.service.guard`
-- @tparam function print
-- @treturn table
function environment.new(library, guard, print)
  local own = copy(_G)
  for name, value in next, own do
    if type(value) == "table" then own[name] = copy(value) end
  end
  own._G = own
  own.print = print
  function own.os.exit() error("os.exit: a script ends by itself alone", 2) end
  local strings = { __index = own.string } -- Lua's own is for all scripts
  function own.getmetatable(value)
    if type(value) == "string" then return strings end
    return getmetatable(value)
  end
  function own.debug.getmetatable(value)
    if type(value) == "string" then return strings end
    return debug.getmetatable(value)
  end
  function own.debug.setmetatable(value, meta)
    if type(value) ~= "table" and type(value) ~= "userdata" then
      error("debug.setmetatable: the metatable of a " .. type(value) .. " is for all scripts", 2)
    end
    return debug.setmetatable(value, meta)
  end
  guard_coroutines(own, guard)
  guard_handlers(own, guard)
  own_chunks(own)
  own_modules(own, library)
  return own
end

return environment
