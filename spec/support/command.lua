--- The command as a process of its own, with the modules of this one.
local scratch = require "spec.support.scratch"

local command = {}

local function quoted(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

-- The shell's words for it. HOME is empty, so that no configuration of the machine's is read.
local function words(arguments, given)
  local list = {
    "exec env -u THINGSBOARD_URL -u THINGSBOARD_TOKEN HOME=/nonexistent",
    "LUA_PATH=" .. quoted(package.path), "LUA_CPATH=" .. quoted(package.cpath),
  }
  for name, value in pairs(given.environment or {}) do list[#list + 1] = name .. "=" .. quoted(value) end
  list[#list + 1] = (given.under or "timeout 60") .. " lua5.4 bin/thingsboard"
  for _, argument in ipairs(arguments) do list[#list + 1] = quoted(argument) end
  return table.concat(list, " ")
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

--- Runs it to its end.
-- @tparam table arguments
-- @tparam ?table given `environment`; `input` (none by default: reading it would hang, and fail the spec);
-- `redirected`, the shell's words for where else its standard descriptors are
-- @treturn integer its exit code
-- @treturn string its standard output
-- @treturn string its standard error
function command.run(arguments, given)
  given = given or {}
  local directory = scratch.new()
  local input = directory .. "/in"
  if given.input then
    write(input, given.input)
  else
    os.execute("mkfifo " .. input .. "; sleep 100 >" .. input .. " & echo $! >" .. directory .. "/holder")
  end
  local line = ("%s <%s >%s/out 2>%s/err %s"):format(words(arguments, given), input, directory, directory,
    given.redirected or "")
  local _, _, code = os.execute("sh -c " .. quoted(line))
  if not given.input then os.execute("kill $(cat " .. directory .. "/holder) 2>/dev/null") end
  local out, err = io.open(directory .. "/out"):read "a", io.open(directory .. "/err"):read "a"
  scratch.remove(directory)
  return code, out, err
end

--- Starts it.
-- @tparam table arguments
-- @tparam ?table given `environment`; `input`, the path of its standard input, /dev/null by default; `errors`, the path
-- of a file for its standard error
-- @treturn file its standard output; `close` waits for its end
-- @treturn integer its process's id
function command.start(arguments, given)
  given = given or {}
  given.under = ""
  local to = given.errors and " 2>>" .. quoted(given.errors) or ""
  local process = io.popen("echo $$; " .. words(arguments, given) .. " <" .. quoted(given.input or "/dev/null") .. to)
  return process, process:read "n", process:read "L" and nil
end

--- Sends a signal.
function command.signal(pid, name)
  os.execute(("kill -%s %d"):format(name, pid))
end

--- Writes a file, with a mode.
function command.write(path, text, mode)
  write(path, text)
  os.execute(("chmod %s %s"):format(mode or "600", quoted(path)))
  return path
end

return command
