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

return processes
