--- Resident memory of a script with one device that waits for RPC requests and for changes of attributes, under the Lua
-- that PATH has first. Under qemu a guest of 32 bits lies below 4 GiB, and qemu itself above: the guest's pages count.
local child = require "spec.support.child"
local emulator = require "spec.support.emulator"

local SCRIPT = [[
  local tb = require "thingsboard"
  local dev = tb.device { url = %q, token = %q, ca_file = %q }
  tb.spawn(function() for request in dev:rpc_requests() do request:reply {} end end)
  tb.spawn(function() for _ in dev:attribute_updates() do end end)
  tb.sleep(3)
  collectgarbage()
  local files, rest, list = 0, 0
  for line in io.lines "/proc/self/smaps" do
    local address, inode = line:match "^(%%x+)%%-%%x+ %%S+ %%S+ %%S+ (%%d+)"
    if address then list = tonumber(address, 16) < 1 << 32 and inode end
    local kib = line:match "^Rss:%%s*(%%d+)"
    if kib and list then
      if list == "0" then rest = rest + kib else files = files + kib end
    end
  end
  print(("%%d KiB: %%d of files, %%d of its own"):format(files + rest, files, rest))
  os.exit(true)
]]

local e <close> = emulator.start()
for _, url in ipairs { e.url, e.tls_url } do
  io.write("one device, both polls open, ", url:match "^%w+", ": ", child.run(SCRIPT:format(url, e.token, e.ca_file)))
end
