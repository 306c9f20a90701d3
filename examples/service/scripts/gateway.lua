-- A device script. It is given the library and the device, and is a task of its own: what waits lets others go on.
local tb, device = ...

device:on_rpc("ping", function(params)
  return { pong = params, at = tb.now() }
end)

device:on_attribute("name", function(name) print("the server calls this device", name) end)

while true do
  local file = io.open "/proc/loadavg"
  local load = file and file:read "n"
  if file then file:close() end
  device:put { load = load } -- through the outbox: on the disk when this returns
  tb.sleep(device.attributes.interval or 60) -- a shared attribute, as it is now
end
