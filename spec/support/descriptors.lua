--- How many descriptors this process has open.
local uv = require "luv"

-- Read here: a command that lists them may find the ends of its own pipe among them.
return function()
  local count, list = 0, assert(uv.fs_scandir "/proc/self/fd")
  while uv.fs_scandir_next(list) do count = count + 1 end
  return count
end
