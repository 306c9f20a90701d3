--- A fleet at work: ten thousand devices that record, send and poll, and share one outbox's file.
package.path = "bench/?.lua;" .. package.path
local support = require "support"

local SECONDS = 20
local LIMIT = "ulimit -n $(ulimit -Hn) 2>/dev/null; "

local directory <close> = support.directory()
local rows = { { "devices", "KiB a device", "CPU of a core, %" } }
for _, count in ipairs { 1000, 10000 } do
  local port_file, outbox = directory.path .. "/port", directory.path .. "/outbox"
  os.execute(("rm -f %s %s %s-wal"):format(port_file, outbox, outbox))
  local _ <close> = io.popen(LIMIT .. "exec " .. support.program "silent" .. " " .. port_file, "w")
  local port = assert(support.await(function()
    local text = support.read(port_file)
    return text and text:match "^(%d+)\n"
  end), "the silent server does not start")
  local line = support.line(("{ %s %s bench/fleet.lua http://127.0.0.1:%s %s %d %d; }"):format(
    LIMIT, support.lua, port, outbox, count, SECONDS))
  local memory, cpu = (line or ""):match "(%S+)%s+(%S+)"
  if memory then
    rows[#rows + 1] = { count, ("%.1f"):format(memory / 1024), ("%.1f"):format(cpu * 100) }
  else
    print(("(%d devices: it failed; descriptors allowed: %s)"):format(count, support.line "ulimit -Hn"))
  end
end
support.print("A fleet: of each device a record a minute, an outbox in a file for all, and a poll of attributes", rows)
