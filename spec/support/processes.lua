--- The processes of this machine, as /proc tells of them: what pgrep and ps would say, where they are installed.
local processes = {}

--- The words that a process was started with.
-- @tparam integer|string pid
-- @treturn string with spaces between them; "" when there is no such process
function processes.command_line(pid)
  local file <close> = io.open("/proc/" .. pid .. "/cmdline")
  local words = file and file:read "a" or ""
  return (words:gsub("\0$", ""):gsub("\0", " "))
end

--- A process that was started with these words.
-- @tparam string words with spaces between them
-- @treturn ?string its id; nil when none runs
function processes.find(words)
  local list <close> = io.popen "ls /proc"
  for pid in list:lines() do
    if pid:find "^%d+$" and processes.command_line(pid) == words then return pid end
  end
end

--- How many processes that this one started have ended, and nobody has waited for them.
-- @treturn integer
function processes.dead()
  local self <close> = assert(io.open "/proc/self/stat")
  local own, count = self:read "n", 0
  local all <close> = io.popen "cat /proc/[0-9]*/stat 2>/dev/null"
  for line in all:lines() do
    local state, parent = line:match "%) (%a) (%d+)"
    if state == "Z" and tonumber(parent) == own then count = count + 1 end
  end
  return count
end

return processes
