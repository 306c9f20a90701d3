--- `thingsboard update`: installs firmware or software by an executable, and tells the server how it goes.
-- @module thingsboard.command.update
local bar = require("thingsboard.command.package").bar
local context = require "thingsboard.command.context"
local core = require "thingsboard.core"
local handler = require "thingsboard.service.handler"
local json = require "thingsboard.json.decode"
local options = require "thingsboard.command.options"
local tb = require "thingsboard"

local LOOK_EVERY <const> = 0.2 -- seconds

local update = {
  usage = "update --handler EXECUTABLE --directory DIRECTORY [--kind software] [-W SECONDS]",
  help = [[
Waits for a package, downloads and verifies it, runs the executable to install it, reports the result to the server, and
ends. The executable is called with `version` (prints the title and the version of what runs, a line each),
`verify FILE` and `apply FILE`; exit code 0 for done, 21 for a later try. DIRECTORY holds the package and the state, so
that the update goes on after a restart.]],
  options = {
    { name = "handler", value = "EXECUTABLE", help = "installs the package" },
    { name = "directory", value = "DIRECTORY", help = "where the package and the state are" },
    { name = "kind", value = "KIND", help = "firmware, or software; firmware if absent" },
    { name = "wait", short = "W", value = "SECONDS", help = "end if nothing was installed in this time; exit code 5" },
  },
}

local function read_state(path)
  local file <close> = io.open(path, "rb")
  local state = file and json.decode(file:read "a" or "")
  return type(state) == "table" and state or {}
end

-- Whether the server has been told of an end that is not the one before.
local function is_over(before, state)
  local ended = state.phase == "updated" or state.phase == "failed"
  if not ended or state.untold and state.untold[1] then return false end
  local now, old = state.package or {}, before.package or {}
  return state.phase ~= before.phase or now.title ~= old.title or now.version ~= old.version or now.tag ~= old.tag
end

function update.run(self, arguments)
  if arguments[1] then options.misused "update takes no arguments" end
  local given = self.given
  for _, name in ipairs { "handler", "directory" } do
    if not given[name] then options.misused("--%s is missing", name) end
  end
  local kind = given.kind or "firmware"
  if kind ~= "firmware" and kind ~= "software" then options.misused "--kind must be firmware or software" end
  local by = handler.new(given.handler)
  local current, err = by:current()
  if not current then return context.fail(err) end
  local path = given.directory .. "/" .. kind .. ".state"
  local before = read_state(path)
  local device <close> = self:device()
  local updating = tb.spawn(function()
    return device:updates {
      kind = kind, current = current, directory = given.directory, progress = bar(),
      apply = function(package) return by:apply(package) end,
    }
  end)
  local deadline = self:deadline()
  while not updating:done() do
    tb.sleep(LOOK_EVERY)
    local state = read_state(path)
    if is_over(before, state) then
      context.print { title = state.package.title, version = state.package.version, state = state.phase:upper() }
      return state.phase == "updated" and context.codes.done or context.codes.other
    end
    local busy = state.phase == "updating" or state.phase == "downloading"
    if deadline and core.monotonic() >= deadline and not busy then return context.codes.nothing end
  end
  local ok, _, failure = updating:join()
  if not ok then error(_, 0) end
  return context.fail(failure or "the update ended")
end

return update
