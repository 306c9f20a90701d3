--- A directory of a spec's own.
local scratch = {}

--- @treturn string its path
function scratch.new()
  local process <close> = io.popen "mktemp -d"
  return process:read "l"
end

--- One in memory, where the system has such a file system: for what is written very often.
function scratch.quick()
  local process <close> = io.popen "mktemp -d -p /dev/shm 2>/dev/null || mktemp -d"
  return process:read "l"
end

--- Removes it and all that is in it.
function scratch.remove(path)
  os.execute("rm -r '" .. path .. "'")
end

--- The names of the files in it, in order.
-- @treturn table
function scratch.files(path)
  local names = {}
  local process <close> = io.popen("ls '" .. path .. "'")
  for name in process:lines() do names[#names + 1] = name end
  return names
end

return scratch
