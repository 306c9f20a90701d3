--- How many descriptors this process has open.
local lfs = require "lfs"

-- Read here: a command that lists them may find the ends of its own pipe among them.
return function()
  local count = 0
  for _ in lfs.dir "/proc/self/fd" do count = count + 1 end
  return count
end
