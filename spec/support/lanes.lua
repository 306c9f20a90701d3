--- Runs spec files in lanes: so many at a time, each in a busted of its own, for most of their time they wait. Tells
-- of each file that passed in a line, shows all that one said that did not, and ends with one summary like busted's.
-- A file that failed runs once more by itself.
-- @usage lua5.4 spec/support/lanes.lua 4 lua5.4 /usr/bin/busted spec/a_spec.lua spec/b_spec.lua
local uv = require "luv"

-- What takes longest begins first, lest it end alone.
local FIRST = {
  "spec/rpc_requests_window_spec.lua", "spec/idle_spec.lua", "spec/updater_kill_spec.lua",
  "spec/service_blocking_spec.lua", "spec/service_scripts_spec.lua", "spec/service_outage_spec.lua",
  "spec/service_day_spec.lua", "spec/network_spec.lua", "spec/command_spec.lua",
  "spec/rpc_requests_spec.lua", "spec/attribute_updates_spec.lua",
  "spec/outbox_kill_spec.lua", "spec/outbox_sending_spec.lua", "spec/outbox_confirm_spec.lua",
  "spec/lies_polls_spec.lua", "spec/updater_spec.lua", "spec/lies_spec.lua", "spec/outbox_small_disk_spec.lua",
  "spec/lost_connections_spec.lua",
  "spec/outbox_story_spec.lua", "spec/http2_spec.lua",
  "spec/download_spec.lua", "spec/examples_spec.lua",
}

local SUMMARY = "(%d+) success%a* / (%d+) failures? / (%d+) errors? / (%d+) pending : [%d.]+ seconds"

local lanes = tonumber(arg[1]) or 0
assert(lanes > 0, "how many lanes?")
local command, files = {}, {}
for n = 2, #arg do
  local list = arg[n]:find "_spec%.lua$" and files or command
  list[#list + 1] = arg[n]
end
local program = table.remove(command, 1)

local function set(list)
  local members = {}
  for _, member in ipairs(list) do members[member] = true end
  return members
end

-- The files in the order in which they begin.
local function ordered(given)
  local wanted, first, order = set(given), set(FIRST), {}
  for _, file in ipairs(FIRST) do order[#order + 1] = wanted[file] and file or nil end
  for _, file in ipairs(given) do order[#order + 1] = not first[file] and file or nil end
  return order
end

local stopped -- by the signal of this name
local queue = ordered(files)
local running, broken = {}, {}
local successes, failures, errors, pendings = 0, 0, 0, 0
local began = uv.hrtime()

local function seconds_since(moment) return (uv.hrtime() - moment) / 1e9 end

-- Ends all of a session, also what made a group of its own there, as timeout(1) does.
local function kill_session(leader)
  for name in uv.fs_scandir_next, assert(uv.fs_scandir "/proc") do
    local file = name:find "^%d+$" and io.open("/proc/" .. name .. "/stat")
    if file then
      local session = (file:read "a" or ""):match "%) %a %d+ %d+ (%d+) "
      file:close()
      if session == tostring(leader) then uv.kill(tonumber(name), "sigkill") end
    end
  end
end

-- What failed beside others runs once more, alone: so a machine that is too busy for deadlines is told from a fault.
-- Both runs are shown, and the second one counts.
local again, alone = {}, false

-- Counts what a file said at its end, and tells about it.
local function report(file, said, code, signal, seconds)
  local passed, failed, erred, pending
  for a, b, c, d in said:gmatch(SUMMARY) do passed, failed, erred, pending = a, b, c, d end
  local how
  if signal ~= 0 then how = "killed by signal " .. signal
  elseif not passed then how = "ended without a summary"
  elseif failed + erred > 0 then how = "failed"
  elseif code ~= 0 then how = "ended with status " .. code end
  if how and not alone and not stopped then
    again[#again + 1] = file
    print(said)
    print(("%6.1f s  %s: %s beside others; it runs again, alone"):format(seconds, file, how))
    return io.stdout:flush()
  end
  successes, failures = successes + (passed or 0), failures + (failed or 0)
  errors, pendings = errors + (erred or 0), pendings + (pending or 0)
  if how then
    broken[#broken + 1] = file .. ": " .. how
    if how ~= "failed" then errors = errors + 1 end -- which no summary counts
  end
  if how or tonumber(pending) > 0 then print(said) end
  print(("%6.1f s  %s: %s"):format(seconds, file, how or passed .. " passed"))
  io.stdout:flush()
end

local function start(file, at_end)
  local output, path = assert(uv.fs_mkstemp((os.getenv "TMPDIR" or "/tmp") .. "/lane.XXXXXX"))
  assert(uv.fs_unlink(path)) -- the descriptor keeps it
  local from, process, pid = uv.hrtime(), nil, nil
  local args = table.move(command, 1, #command, 1, {})
  args[#args + 1] = file
  -- A session of its own, which can be ended as a whole.
  process, pid = uv.spawn(program, { args = args, stdio = { nil, output, output }, detached = true },
    function(code, signal)
      process:close()
      running[pid] = nil
      report(file, assert(uv.fs_read(output, uv.fs_fstat(output).size, 0)), code, signal, seconds_since(from))
      uv.fs_close(output)
      at_end()
    end)
  if not process then
    io.stderr:write(("cannot run %s: %s\n"):format(program, pid))
    os.exit(false)
  end
  running[pid] = true
end

local function start_next()
  if queue[1] then start(table.remove(queue, 1), start_next) end
end

for _, name in ipairs { "sigint", "sigterm", "sighup" } do
  local signal = uv.new_signal()
  signal:start(name, function()
    stopped, queue = name, {}
    for leader in pairs(running) do kill_session(leader) end
  end)
  signal:unref()
end

for _ = 1, lanes do start_next() end
uv.run()
queue, alone = again, true
start_next()
uv.run()

for _, line in ipairs(broken) do print(line) end
if stopped then print("stopped by " .. stopped) end
print(("%d successes / %d failures / %d errors / %d pending : %f seconds"):format(
  successes, failures, errors, pendings, seconds_since(began)))
os.exit(#broken == 0 and not stopped)
