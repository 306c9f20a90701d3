-- A device that updates its firmware, for specs that kill it: ends once the package is done with, and everything told.
-- Arguments: URL TOKEN DIRECTORY [KILL_AT]: it kills itself at this line of those that the update runs through.
local url, token, directory, kill_at = table.unpack(arg)
kill_at = tonumber(kill_at)

local lines = 0
if kill_at then
  local function count()
    local source = debug.getinfo(2, "S").short_src
    if not source:find "ota/updater%.lua$" and not source:find "ota/resume%.lua$" then return end
    lines = lines + 1
    if lines == kill_at then os.execute "kill -9 $PPID" end
  end
  local create = coroutine.create
  coroutine.create = function(body) -- luacheck: ignore 122
    local thread = create(body)
    debug.sethook(thread, count, "l")
    return thread
  end
end

local core = require "thingsboard.core"
local json = require "thingsboard.json.decode"
local tb = require "thingsboard"

local function read(name)
  local file <close> = io.open(directory .. "/" .. name, "rb")
  return file and file:read "a"
end

local function append(name, text)
  local file <close> = assert(io.open(directory .. "/" .. name, "ab"))
  file:write(text)
end

local dev = tb.device { url = url, token = token }
tb.spawn(function()
  print(dev:updates {
    kind = "firmware", current = { title = "fw", version = read "version" or "one" }, directory = directory,
    chunk_size = 1000, allow_http = true,
    apply = function(package)
      append("applied", package.version .. "\n")
      local checksum = core.checksum(package.checksum_algorithm)
      local file <close> = assert(io.open(package.path, "rb"))
      checksum:update(file:read "a")
      if checksum:hex() ~= package.checksum then append("applied", "unverified\n") end
      append("version", package.version)
      return true
    end,
  })
end)

while true do
  tb.sleep(0.02)
  local text = read "firmware.state"
  local state = text and json.decode(text) or {}
  if (state.phase == "updated" or state.phase == "failed") and #state.untold == 0 then break end
end
print(lines)
os.exit(true)
