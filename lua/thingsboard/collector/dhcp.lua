-- DHCP: dhcp_leases, how many leases of dnsmasq stand. They are in `file`, or where OpenWrt or Debian has them.
local measure = require "thingsboard.service.measure"
local tb, device, options = ...

measure.run(tb, device, options, { file = "text" }, 60, function(given)
  local text = measure.read(given.root .. (given.file or "/tmp/dhcp.leases"))
    or not given.file and measure.read(given.root .. "/var/lib/misc/dnsmasq.leases")
  if not text then return {} end
  local count, now = 0, tb.now() // 1000 -- not os.time, which fails from 2038 on where its time has 32 bits
  for digits in text:gmatch "(%d+) [^\n]+" do
    local expires = tonumber(digits)
    if expires == 0 or expires > now then count = count + 1 end -- 0: for ever
  end
  return { dhcp_leases = count }
end)
