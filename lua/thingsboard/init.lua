--- The ThingsBoard HTTP device API as plain Lua functions that also run in coroutines.
-- @module thingsboard
local core = require "thingsboard.core"
local check = require "thingsboard.check"
local device = require "thingsboard.device"
local json = require "thingsboard.json.decode"
local loop = require "thingsboard.loop"
local version = require "thingsboard.version"

local signals = { HUP = true, INT = true, TERM = true, QUIT = true, USR1 = true, USR2 = true, PIPE = true, CHLD = true }

local thingsboard = {
  version = version,
  device = device.new,
  -- Loaded when first used, for few processes do.
  provision = function(given) return require("thingsboard.api.provision")(given) end,
  derive_token = function(...) return require("thingsboard.api.derive_token")(...) end,
  --- JSON's null.
  null = json.null,
  --- Marks a table as an array, so that an empty one is written `[]`.
  -- @function array
  -- @tparam table list
  -- @treturn table the same
  array = core.array,
  --- The time for `ts`.
  -- @function now
  -- @treturn integer milliseconds since 1970
  now = core.now,
}

--- Whether the time is known. Outboxes date records only then; before, records wait with the time since the system's
-- start, and are dated once it is. It is known when the script says so, once a file is there that a hook of NTP makes,
-- or when an answer of ThingsBoard's has told it to an outbox.
-- @tparam ?boolean|string known true or false: the system's clock is right, or is not; or the path of the hook's file,
-- which should be gone after a restart of the system, as in `/tmp` of OpenWrt
-- @treturn boolean
function thingsboard.clock(known)
  local is_path = type(known) == "string" and known:sub(1, 1) == "/"
  if known ~= nil and type(known) ~= "boolean" and not is_path then
    error("clock: known must be a boolean, or a file's path from the root on", 2)
  end
  return require("thingsboard.outbox.record_clock").known(known)
end

--- Starts a task: a function that is suspended, alone, in every call that waits. It runs in `run`, and whenever other
-- code waits.
-- @tparam function body
-- @param ... its arguments
-- @treturn task with `cancel()`, `join()` and `done()`
function thingsboard.spawn(body, ...)
  check.argument("spawn", "body", body, "function")
  return loop.default():spawn(body, ...)
end

--- Waits for some seconds, while other tasks run.
-- @tparam number seconds
function thingsboard.sleep(seconds)
  if type(seconds) ~= "number" or seconds < 0 or seconds ~= seconds then
    error("sleep: seconds must be a number, not negative", 2)
  end
  return loop.default():sleep(seconds)
end

--- Calls a function, in a task of its own, whenever the process gets a signal; `run` does not wait for signals. Several
-- functions may be called for one signal.
-- @tparam string name `"HUP"`, `"INT"`, `"TERM"`, `"QUIT"`, `"USR1"`, `"USR2"`, `"PIPE"` or `"CHLD"`
-- @tparam function handler called with the name
-- @treturn table with `close()`: when the last one is closed, the system's default applies again
function thingsboard.on_signal(name, handler)
  check.argument("on_signal", "handler", handler, "function")
  if not signals[name] then error("on_signal: there is no signal " .. tostring(name), 2) end
  return require("thingsboard.loop.watcher").of(loop.default()):on_signal(name, handler)
end

--- Runs until no task is left.
function thingsboard.run()
  return loop.default():run() -- a tail call: a mistake is reported at the line of the script
end

--- Limits the connections to one server, for all devices; without a limit there are as many as calls in flight. Set it
-- before the first call: earlier calls are not limited. Over HTTP/1.1 an open poll occupies a connection: two for each
-- `rpc_requests`, one for each `attribute_updates`. A call that finds none free waits until a poll ends, so allow one
-- more. Over HTTP/2 calls share connections.
-- @tparam ?integer count nil for no bound
function thingsboard.max_connections(count)
  if count ~= nil then check.argument("max_connections", "count", count, "positive integer") end
  if count and count >= 2 ^ 31 then error("max_connections: count must be below 2^31", 2) end
  loop.default().reactor:max_connections(count or 0)
end

--- Sets the handler of errors in tasks. Without one they are written to the standard error. The other tasks go on; if
-- the handler raises, `run` ends with its error.
-- @tparam function handler called with the task and the message with its traceback
function thingsboard.on_error(handler)
  check.argument("on_error", "handler", handler, "function")
  loop.default().on_error = handler
end

return thingsboard
