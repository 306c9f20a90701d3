--- Runs a program, and waits for its end in a task while the others go on. No shell is involved.
-- @module thingsboard.loop.child
local core = require "thingsboard.core"
local process = require "thingsboard.process"
local watcher = require "thingsboard.loop.watcher"

local child = {}

local MOST_OUTPUT = 64 * 1024 -- bytes
local MERCY = 2 -- seconds between SIGTERM and SIGKILL
local ASK_EVERY = 0.1 -- seconds, where the system cannot tell of an end by itself

local function write_all(loop, running, text)
  local at = 1
  while at <= #text do
    local fd = running:input()
    watcher.of(loop):wait(fd, "w")
    local count = process.write(fd, text, at)
    if not count then break end -- it does not read to the end
    at = at + count
  end
  running:close_input()
end

-- Reads what is available. Returns whether there may be more later.
local function read_some(running, result, most)
  while not result.too_long do
    local text = process.read(running:output())
    if text == nil then return true end
    if text == "" then return false end
    result.too_long = #text > most - #result.output
    result.output = result.output .. text:sub(1, most - #result.output)
  end
  running:kill "KILL"
  return false
end

local function wait_for_end(loop, running, deadline)
  local fd = running:pidfd()
  while true do
    local how, code = running:wait()
    local now = core.monotonic()
    if how then return how, code end
    if now >= deadline then return nil end
    if fd then
      watcher.of(loop):wait(fd, "r", deadline < math.huge and deadline or nil)
    else
      loop:sleep(math.min(ASK_EVERY, deadline - now))
    end
  end
end

--- Runs a program to its end.
-- @tparam table loop
-- @tparam table given as a list, the program and its arguments; `input` (text for its standard input), `directory`
-- (where it runs), `timeout` (seconds; none by default), `max_output` (bytes, 65536), `detached` (it goes on when the
-- task that waits is cancelled)
-- @treturn[1] table `output`; `code` of its exit, or `signal` (a number) that ended it; `timed_out`, `too_long`: why it
-- was ended here
-- @treturn[2] nil
-- @treturn[2] string why it cannot be started
function child.run(loop, given)
  local running <close>, reason = process.spawn(table.move(given, 1, #given, 1, {}), given.directory, given.detached)
  if not running then return nil, reason end
  local result, most = { output = "", too_long = false }, given.max_output or MOST_OUTPUT
  local writer = loop:spawn_background(write_all, loop, running, given.input or "")
  local reader = loop:spawn_background(function()
    while read_some(running, result, most) do watcher.of(loop):wait(running:output(), "r") end
  end)
  local _ <close> = setmetatable({}, { __close = function()
    writer:cancel()
    reader:cancel()
  end })
  local how, code = wait_for_end(loop, running, core.monotonic() + (given.timeout or math.huge))
  if not how then
    result.timed_out = true
    running:kill "TERM"
    how, code = wait_for_end(loop, running, core.monotonic() + MERCY)
  end
  if not how then
    running:kill "KILL"
    how, code = wait_for_end(loop, running, math.huge)
  end
  reader:cancel()
  read_some(running, result, most)
  result[how == "exit" and "code" or "signal"] = code
  return result
end

return child
