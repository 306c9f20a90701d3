--- What the benchmarks share: processes that end with the benchmark, what a command costs, tables.
-- They are run from the root of the tree, as `make bench` does; BUILD names the build's directory.
local support = {}

local build = os.getenv "BUILD" or "build"

--- The interpreter that runs the benchmark.
support.lua = arg[-1] or "lua5.4"

--- The path of one of the C programs.
function support.program(name) return build .. "/bench/" .. name end

--- The first line that a shell command prints; nil when it fails.
function support.line(command)
  local pipe = io.popen(command .. " 2>/dev/null")
  local line = pipe:read "l"
  return pipe:close() and line or nil
end

--- Whether the shell knows the command; says so when not.
function support.has(command)
  if support.line("command -v " .. command) then return true end
  print(("(%s is missing: without it)"):format(command))
  return false
end

--- Bytes of resident memory of this process, without garbage.
function support.resident()
  collectgarbage()
  collectgarbage()
  return tonumber(support.read("/proc/self/status"):match "VmRSS:%s*(%d+)") * 1024
end

--- A directory for what a benchmark writes; removed with the object at the end of its scope.
function support.directory()
  local path = assert(support.line "mktemp -d")
  return setmetatable({ path = path }, { __close = function() os.execute("rm -rf " .. path) end })
end

function support.read(path)
  local file = io.open(path)
  if not file then return nil end
  local text = file:read "a"
  file:close()
  return text
end

function support.write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  assert(file:close())
end

--- Waits until the condition yields something, ten seconds at most.
function support.await(condition)
  for _ = 1, 500 do
    local value = condition()
    if value then return value end
    os.execute "sleep 0.02"
  end
end

-- Servers run on the first processor, and what is measured on the second: where the kernel moves them about, the CPU
-- time of one and the same program varies by a half.
local apart = support.line "taskset -c 1 true && echo yes" ~= nil

--- The command, to be run where no server is.
function support.away(command) return (apart and "taskset -c 1 " or "") .. command end

--- Starts a process, which is ended with the object at the end of its scope, and with this process however that ends:
-- a shell waits for the end of its input, then ends the process by its id.
function support.start(command, directory)
  local id_file = directory.path .. "/pid"
  os.remove(id_file)
  local script = "%s%s </dev/null >/dev/null & echo $! >%s.new; mv %s.new %s; cat >/dev/null; kill $!; wait"
  local pipe = assert(io.popen(script:format(apart and "taskset -cp 0 $$ >/dev/null; " or "", command, id_file, id_file,
    id_file), "w"))
  local id = support.await(function() return support.read(id_file) end)
  return setmetatable({ id = tonumber(id) }, { __close = function() pipe:close() end })
end

local CONF = [[
user %s; worker_processes 1; daemon off; pid %s/nginx.pid; error_log %s/error.log;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 100000000; client_body_temp_path %s/body; default_type application/octet-stream;
  proxy_temp_path %s/p; fastcgi_temp_path %s/f; uwsgi_temp_path %s/u; scgi_temp_path %s/s; sendfile on;
  server { listen 127.0.0.1:%d; root %s; %s }
}
]]

--- Starts nginx on a free port.
-- @tparam string location what stands in its `server`
-- @return the process, and where it serves; nil, said why, when there is no nginx
function support.nginx(directory, location)
  local nginx = support.line "PATH=$PATH:/usr/sbin command -v nginx"
  if not nginx then print "(nginx is missing: nothing to measure against)" return nil end
  local user = support.line "id -un" -- by its own choice a server that root starts could not read the directory
  for _ = 1, 20 do
    local d, port = directory.path, math.random(20000, 32000)
    support.write(d .. "/nginx.conf", CONF:format(user, d, d, d, d, d, d, d, port, d, location))
    if os.execute(("%s -q -t -p %s -c %s/nginx.conf -e %s/error.log 2>/dev/null"):format(nginx, d, d, d)) then
      local command = ("exec %s -p %s -c %s/nginx.conf -e %s/error.log"):format(nginx, d, d, d)
      local process = support.start(command, directory)
      local up = support.await(function()
        return support.read(d .. "/nginx.pid") or not support.read("/proc/" .. process.id .. "/stat") and "gone"
      end)
      if up and up ~= "gone" then return process, "http://127.0.0.1:" .. port end
      local _ <close> = process
    end
  end
  print "(nginx does not start: nothing to measure against)"
end

--- What a command costs: seconds of wall, seconds of CPU, KiB of resident memory at its peak.
function support.measure(command)
  local line = support.line(support.away(support.program "measure" .. " " .. command))
  if not line then error("this failed: " .. command) end
  local wall, cpu, memory = line:match "(%S+) (%S+) (%S+)"
  return tonumber(wall), tonumber(cpu), tonumber(memory)
end

--- The instructions of a command, by callgrind.
function support.instructions(command, directory)
  local log = directory.path .. "/callgrind.log"
  local valgrind = "valgrind --tool=callgrind --callgrind-out-file=/dev/null %s >/dev/null 2>%s"
  if not os.execute(valgrind:format(command, log)) then error("this failed under callgrind: " .. command) end
  return tonumber(support.read(log):match "Collected : (%d+)")
end

function support.median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  return (sorted[(#sorted + 1) // 2] + sorted[#sorted // 2 + 1]) / 2
end

local figures -- the file of them, once there are any

--- Keeps a figure for the picture, see `picture.lua`: a cost, in multiples of the limit's.
-- @tparam string group what is measured, and against which limit
-- @tparam string label whose cost it is
-- @tparam number value
-- @tparam boolean ours it is this module's
function support.figure(group, label, value, ours)
  figures = figures or assert(io.open(("%s/bench/%s.figures"):format(build, arg[0]:match "bench_(%w+)"), "w"))
  figures:write(("%s\t%s\t%.2f\t%s\n"):format(group, label, value, ours and "ours" or "peer"))
  figures:flush()
end

--- Prints a table: rows of texts and numbers, the first row its heads.
function support.print(title, rows)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      row[i] = tostring(cell)
      widths[i] = math.max(widths[i] or 0, utf8.len(row[i]))
    end
  end
  print("\n" .. title)
  for _, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      local blanks = (" "):rep(widths[i] - utf8.len(cell))
      cells[i] = i == 1 and cell .. blanks or blanks .. cell
    end
    print("  " .. table.concat(cells, "  "))
  end
end

return support
