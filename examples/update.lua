-- Keeps the firmware up to date, and draws how far the download has come.
-- Usage: lua5.4 update.lua URL TOKEN DIRECTORY VERSION
local tb = require "thingsboard"
local url, token, directory, version = table.unpack(arg)
assert(version, "usage: update.lua URL TOKEN DIRECTORY VERSION")

local WIDTH = 50

local function draw(received, total)
  local full = total and WIDTH * received // math.max(total, 1) or 0
  io.write(("\r[%s%s] %d bytes"):format(("#"):rep(full), ("."):rep(WIDTH - full), received))
  if received == total then io.write "\n" end
  io.flush()
end

local dev = tb.device { url = url, token = token }
local _, err = dev:updates {
  kind = "firmware", current = { title = "gateway", version = version }, directory = directory, progress = draw,
  apply = function(package)
    print(("applying %s %s"):format(package.title, package.version))
    return os.execute(("cp '%s' '%s/applied'"):format(package.path, directory))
  end,
}
print(err)
