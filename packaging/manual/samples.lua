-- An example of every public function, by how a script calls it. The specs run each; `tb` and `dev` are there.
return {
  ["tb.device"] = [[
local dev <close> = tb.device {
  url = "https://thingsboard.example", token = "A1_TEST_TOKEN", timeout = 20,
}
assert(dev:send_telemetry { temperature = 21.5 })]],
  ["tb.provision"] = [[
local credentials = assert(tb.provision {
  url = "https://thingsboard.example", key = "profile-key", secret = "profile-secret",
  device_name = "hall-1", store = "/etc/thingsboard/credentials",
})
local dev = tb.device { url = "https://thingsboard.example", token = credentials.token }]],
  ["tb.derive_token"] = [[
local serial = "GL-MT300N-0042"
print(tb.derive_token(serial, "a secret of the fleet, 16 bytes or more"))]],
  ["tb.clock"] = [[
tb.clock "/tmp/ntp-synced" -- from when this file is there, the clock is right
if not tb.clock() then print "records wait until the time is known" end]],
  ["tb.now"] = [[
assert(dev:send_telemetry { ts = tb.now() - 60000, values = { temperature = 21.0 } })]],
  ["tb.array"] = [[
assert(dev:send_attributes { readings = tb.array {}, names = { "a", "b" } }) -- [] and ["a","b"] ]],
  ["tb.spawn"] = [[
tb.spawn(function(name)
  for second = 1, 2 do
    print(name, second)
    tb.sleep(0.1)
  end
end, "blink")
tb.run()]],
  ["tb.sleep"] = [[
tb.sleep(0.5) -- tasks go on meanwhile]],
  ["tb.run"] = [[
tb.spawn(function() print(dev:send_telemetry { temperature = 21.5 }) end)
tb.spawn(function() print(dev:send_attributes { uptime = 73 }) end)
tb.run() -- both calls are in flight at once]],
  ["tb.on_signal"] = [[
local handle = tb.on_signal("TERM", function(name)
  print("ends by " .. name)
  dev:close()
end)
handle:close() -- the system's default again]],
  ["tb.max_connections"] = [[
tb.max_connections(8) -- before the first call]],
  ["tb.on_error"] = [[
tb.on_error(function(task, message) io.stderr:write("a task failed: ", message, "\n") end)]],
  ["dev:send_telemetry"] = [[
assert(dev:send_telemetry { temperature = 21.5, open = true })
assert(dev:send_telemetry {
  { ts = tb.now() - 1000, values = { temperature = 21.0 } },
  { ts = tb.now(), values = { temperature = 21.5 } },
})]],
  ["dev:send_attributes"] = [[
assert(dev:send_attributes { model = "GL-MT300N", uptime = 73 })]],
  ["dev:request_attributes"] = [[
local attributes = assert(dev:request_attributes { client = { "model" }, shared = { "interval" } })
print(attributes.client.model, attributes.shared.interval)]],
  ["dev:attribute_updates"] = [[
for values, deleted in dev:attribute_updates { "interval" } do
  print(values.interval, #deleted)
  break -- or go on for ever
end]],
  ["dev:rpc_requests"] = [[
for request in dev:rpc_requests() do
  print(request.method, request.params)
  request:reply { ok = true }
  if request.method == "stop" then break end
end]],
  ["request:reply"] = [[
for request in dev:rpc_requests() do
  local ok, err = request:reply { heating = true }
  print(ok or err)
  if request.method == "stop" then break end
end]],
  ["dev:reply_rpc"] = [[
local waiting = {}
for request in dev:rpc_requests() do
  waiting[#waiting + 1] = request.id
  break
end
assert(dev:reply_rpc(waiting[1], { ok = true })) -- later than the loop that brought it]],
  ["dev:serve_rpc"] = [[
local _, err = dev:serve_rpc {
  getState = function() return { heating = true } end,
  setTarget = function(params) return { target = params } end,
  stop = function() dev:close() end,
}
print(err) -- closed]],
  ["dev:send_rpc"] = [[
local answer = assert(dev:send_rpc("getTime", { zone = "UTC" }))
print(answer.time)]],
  ["dev:claim"] = [[
assert(dev:claim { secret_key = "s3cret", duration_ms = 60000 })]],
  ["dev:firmware"] = [[
local told = assert(dev:request_attributes { shared = { "fw_title", "fw_version", "fw_size", "fw_checksum",
  "fw_checksum_algorithm" } }).shared
local path = assert(dev:firmware {
  title = told.fw_title, version = told.fw_version, size = told.fw_size, checksum = told.fw_checksum,
  checksum_algorithm = told.fw_checksum_algorithm, path = "/tmp/firmware.bin", chunk_size = 64 * 1024,
})
print(path)]],
  ["dev:software"] = [[
local package, err = dev:software { title = "agent", version = "2.0" }
if not package then print(err.kind, err.status) end]],
  ["dev:updates"] = [[
tb.spawn(function()
  local _, err = dev:updates {
    kind = "firmware", current = { title = "gateway", version = "1.0" }, directory = "/tmp/firmware",
    apply = function(package)
      print("applies " .. package.version .. " from " .. package.path)
      return true -- the new version runs
    end,
  }
  print(err)
end)]],
  ["dev:listen"] = [[
dev:listen(function(status, err) print(status or err) end)
dev:send_telemetry { temperature = 21.5 }]],
  ["dev:outbox"] = [[
local outbox <close> = assert(dev:outbox { path = "/tmp/outbox.db", max_bytes = 16 * 1024 * 1024 })
outbox:put { temperature = 21.5 }
assert(outbox:drain { deadline = 30 })]],
  ["dev:close"] = [[
dev:close()
print(pcall(dev.send_telemetry, dev, { a = 1 }))]],
  ["outbox:put"] = [[
local outbox <close> = assert(dev:outbox { path = "/tmp/outbox.db" })
assert(outbox:put { temperature = 21.5 })                            -- the time is now
assert(outbox:put { ts = tb.now(), values = { temperature = 21.5 } })
assert(outbox:put { { level = 1 }, { level = 2 } })                  -- all or none]],
  ["outbox:attributes"] = [[
local outbox <close> = assert(dev:outbox { path = "/tmp/outbox.db" })
assert(outbox:attributes { uptime = 73 })]],
  ["outbox:run"] = [[
local outbox = assert(dev:outbox { path = "/tmp/outbox.db" })
tb.spawn(function()
  local _, err = outbox:run()
  print(err) -- the server knows no such device; recording goes on
end)
outbox:put { temperature = 21.5 }]],
  ["outbox:drain"] = [[
local outbox <close> = assert(dev:outbox { path = "/tmp/outbox.db" })
outbox:put { temperature = 21.5 }
local ok, err = outbox:drain { deadline = 30 }
print(ok or err)]],
  ["outbox:sync"] = [[
local outbox <close> = assert(dev:outbox { path = "/tmp/outbox.db", sync_every = 10 })
outbox:put { door = "open" }
assert(outbox:sync()) -- this one does not wait for ten seconds]],
  ["outbox:stats"] = [[
local outbox <close> = assert(dev:outbox { path = "/tmp/outbox.db" })
local stats = outbox:stats()
print(stats.records, stats.bytes, stats.lost.full, stats.trouble, stats.err)]],
  ["outbox:rejected"] = [[
local outbox <close> = assert(dev:outbox { path = "/tmp/outbox.db" })
for _, entry in ipairs(assert(outbox:rejected())) do print(entry.reason, entry.body) end]],
  ["outbox:close"] = [[
local outbox = assert(dev:outbox { path = "/tmp/outbox.db" })
assert(outbox:close())]],
  ["task:done"] = [[
local task = tb.spawn(function() tb.sleep(0.1) end)
print(task:done()) -- false
tb.run()
print(task:done()) -- true]],
  ["task:join"] = [[
local task = tb.spawn(function() return dev:send_telemetry { temperature = 21.5 } end)
print(task:join())]],
  ["task:cancel"] = [[
local task = tb.spawn(function() tb.sleep(3600) end)
tb.sleep(0.1)
task:cancel()
tb.run() -- returns at once]],
  ["loop_module.default"] = [[
local loop = require("thingsboard.loop").default()
print(loop:pollfd())]],
  ["loop:spawn"] = [[
local loop = require("thingsboard.loop").default()
loop:spawn(function() print "in a task" end)
loop:run()]],
  ["loop:sleep"] = [[
require("thingsboard.loop").default():sleep(0.1)]],
  ["loop:step"] = [[
local loop = require("thingsboard.loop").default()
local task = loop:spawn(function() dev:send_telemetry { temperature = 21.5 } end)
repeat loop:step(1) until task:done()]],
  ["loop:run"] = [[
local loop = require("thingsboard.loop").default()
loop:spawn(function() dev:send_telemetry { temperature = 21.5 } end)
loop:run()]],
  ["loop:pollfd"] = [[
local loop = require("thingsboard.loop").default()
print("watch descriptor " .. loop:pollfd() .. " for reading, then call loop:step(0)")]],
  ["loop:events"] = [[
print(require("thingsboard.loop").default():events()) -- r]],
  ["loop:timeout"] = [[
print(require("thingsboard.loop").default():timeout())]],
  ["loop:close"] = [[
require("thingsboard.loop").default():close() -- devices made before are closed; the next one gets a new loop]],
}
