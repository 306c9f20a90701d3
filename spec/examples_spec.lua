-- Each example as a process of its own, and each piece of Lua in README and the guide, against the emulator.
local cjson = require "cjson"
local emulator = require "spec.support.emulator"
local manual = require "spec.support.manual"
local scratch = require "spec.support.scratch"

local lua = arg[-1] or "lua5.4"
while not lua:find "lua[%d.]*$" do lua = "lua5.4" end

describe("example", function()
  local e, directory

  before_each(function()
    e = emulator.start()
    directory = scratch.new()
  end)

  after_each(function()
    e:stop()
    scratch.remove(directory)
  end)

  local function start(script, ...)
    local words = { lua, "examples/" .. script }
    for _, argument in ipairs { ... } do words[#words + 1] = ("'%s'"):format(argument) end
    return io.popen("exec timeout 60 " .. table.concat(words, " ") .. " 2>&1")
  end

  local function run(script, ...)
    local process = start(script, ...)
    local said = process:read "a"
    return said, process:close()
  end

  it("logger posts the load", function()
    assert.equal("", (run("logger.lua", e.url, e.token, 1)))
    assert.equal("DOUBLE", e:telemetry(e.token)[1].type)
    assert.equal("load", e:telemetry(e.token)[1].key)
  end)

  it("rpc_server answers, and ends when the device is gone", function()
    local process = start("rpc_server.lua", e.url, e.token)
    e:arrived(2)
    local function ask(method, params)
      return e:rpc_result(e:rpc(e.token, { method = method, params = params }), 10).body
    end
    assert.same({ pin = 4, enabled = true }, cjson.decode(ask("setGpio", '{"pin":4,"enabled":true}')))
    assert.truthy(ask("getGpio", '{"pin":4}'):find('"enabled":true', 1, true))
    assert.equal('"blinking"', ask("blink", '{"pin":4,"times":2}'))
    assert.truthy(ask("nope", "{}"):find("no such method: nope", 1, true))
    assert.equal("pin 4 is off", process:read "l")
    assert.equal("pin 4 is on", process:read "l")
    e:delete_device(e.token)
    assert.truthy(process:read("a"):find "rpc_requests: .*%(status 40[13]%)")
    process:close()
  end)

  it("provisioning asks once, and keeps what it got in a file of its owner's", function()
    e:provision_profile { key = "k", secret = "s", strategy = "CHECK_PRE_PROVISIONED" }
    local token = e:create_device { name = "pre" }
    local file = directory .. "/credentials"
    for _ = 1, 2 do -- the server would refuse a second request
      local said, ok = run("provisioning.lua", e.url, "k", "s", "pre", file)
      assert.equal("the device has its credentials, kept in " .. file .. "\n", said)
      assert.is_true(ok)
    end
    assert.equal("provisioning.lua", e:attributes(token, "client").provisioned_by.value)
    assert.equal("600\n", io.popen("stat -c %a " .. file):read "a")
  end)

  it("provisioning says what is wrong", function()
    e:provision_profile { key = "k", secret = "s", strategy = "ALLOW_CREATE" }
    local said, ok = run("provisioning.lua", e.url, "k", "wrong", "new", directory .. "/credentials")
    assert.is_nil(ok)
    assert.truthy(said:find("Check the key and the secret", 1, true), said)
  end)

  it("firmware downloads in chunks and verifies", function()
    e:set { ota_delay = 0 }
    e:assign(e.token, "firmware", { title = "t", version = "1", size = 150000 })
    local file = directory .. "/fw"
    local said, ok
    local deadline = os.time() + 10
    repeat
      said, ok = run("firmware.lua", e.url, e.token, file)
    until said ~= "no firmware is assigned\n" or os.time() > deadline
    assert.is_true(ok, said)
    assert.truthy(said:find("65536 of 150000 bytes", 1, true))
    assert.truthy(said:find(file .. " is whole and verified", 1, true))
    assert.equal(150000, #io.open(file, "rb"):read "a")
  end)

  it("update draws a bar, and applies the package", function()
    e:set { ota_delay = 0 }
    local process = start("update.lua", e.url, e.token, directory, "1")
    e:assign(e.token, "firmware", { title = "gateway", version = "2", size = 500000 })
    local bar = process:read "L"
    assert.truthy(bar:find("[" .. ("#"):rep(50) .. "] 500000 bytes", 1, true), bar)
    assert.equal("applying gateway 2", process:read "l")
    e:delete_device(e.token)
    process:read "a"
    process:close()
    assert.equal(500000, #io.open(directory .. "/applied", "rb"):read "a")
  end)

  it("outbox keeps the load, and sends it", function()
    local file = directory .. "/outbox.db"
    local said, ok = run("outbox.lua", "http://127.0.0.1:1", e.token, file, 1) -- no server there
    assert.is_true(ok, said)
    said, ok = run("outbox.lua", e.url, e.token, file, 1)
    assert.is_true(ok, said)
    assert.equal("", said)
    assert.equal(2, #e:series(e.token).load)
  end)

  it("each says how to use it", function()
    for _, script in ipairs { "logger", "rpc_server", "provisioning", "firmware", "update", "thermostat", "outbox" } do
      local said, ok = run(script .. ".lua")
      assert.is_nil(ok)
      assert.truthy(said:find("usage: " .. script, 1, true), said)
    end
  end)

  it("demo tells the whole story", function()
    local said, ok = run "demo.lua"
    assert.is_true(ok, said)
    for _, words in ipairs { "has its credentials", "its time", "setpoint is 22.5", "is told {", "verified", "goodbye",
      "all done" } do
      assert.truthy(said:find(words, 1, true), said)
    end
  end)
end)

describe("make emulator #host", function()
  it("says an address and a token first, then what arrives, until it is ended", function()
    local process = io.popen("echo $$; exec env -u MAKEFLAGS -u MAKELEVEL make emulator 2>/dev/null")
    local pid = process:read "n"
    finally(function()
      os.execute("kill " .. pid)
      process:close()
    end)
    assert.equal("", process:read "l")
    local url, token = process:read("l"):match "^(http://127%.0%.0%.1:%d+) (%S+)$"
    local dev <close> = require("thingsboard").device { url = url, token = token }
    assert(dev:send_telemetry { a = 1 })
    local line
    repeat line = process:read "l" or "nothing" until not line:find("^the page: ")
    assert.truthy(line:find("POST /api/v1/" .. token .. "/telemetry", 1, true), line)
  end)
end)

describe("make run #host", function()
  it("runs a script of one's own, without installing anything", function()
    local directory = scratch.new()
    finally(function() scratch.remove(directory) end)
    local file <close> = io.open(directory .. "/mine.lua", "w")
    file:write 'print(require("thingsboard").version, pcall(require, "thingsboard.outbox"))\n'
    file:flush()
    local process <close> = io.popen(("env -u MAKEFLAGS -u MAKELEVEL make -s run SCRIPT=%s/mine.lua 2>/dev/null")
      :format(directory))
    assert.matches("^" .. require("thingsboard").version:gsub("%.", "%%.") .. "\ttrue", process:read "a")
  end)
end)

describe("README and the guide:", function()
  local e, directory
  local known = true -- whether there is a device of the token

  setup(function()
    e = emulator.start()
    e:provision_profile { key = "profile-key", secret = "profile-secret", strategy = "ALLOW_CREATE" }
    e:on_client_rpc "echo"
    e:set { ota_delay = 0 }
  end)

  teardown(function() e:stop() end)

  -- A device for every piece, which has what the pieces speak of.
  before_each(function()
    directory = scratch.new()
    if known then e:delete_device(e.token) end
    e:create_device { name = "Test Device", token = e.token }
    known = true
    e:assign(e.token, "firmware", { title = "t", version = "1", size = 150000 })
    e:set_shared(e.token, '{"interval":5,"limit":7,"target":23}')
    e:clear()
  end)

  after_each(function() scratch.remove(directory) end)

  -- Runs a piece as a process that has `tb` and `dev`, and ends by itself; tells what it printed.
  local function run(code)
    code = code:gsub("https://thingsboard%.example", e.url):gsub("A1_TEST_TOKEN", e.token)
      :gsub("/etc/thingsboard/credentials", directory .. "/credentials"):gsub("/tmp/firmware%.bin", directory .. "/fw")
      :gsub("/tmp/firmware", directory):gsub("/tmp/outbox", directory .. "/outbox")
    if code:find "while true" then code = code:gsub("tb%.run%(%)%s*$", "tb.sleep(0.3)") end
    local path = directory .. "/piece.lua"
    local file = io.open(path, "w")
    if not code:find("local dev", 1, true) then
      file:write(('local tb = require "thingsboard"; local dev = tb.device { url = "%s", token = "%s" }; '):format(
        e.url, e.token))
    end
    file:write(code, "\n")
    if code:find("local.*err =") and not code:find("err.kind", 1, true) then file:write("assert(not err, err)\n") end
    if code:find "spawn" then file:write("tb.sleep(0.3)\n") end -- its tasks run for a while
    file:close()
    return io.popen(("timeout 20 %s %s 2>&1; echo status $?"):format(lua, path))
  end

  local pieces = manual.pieces()

  it("have their pieces", function() assert.equal(25, #pieces) end)

  for _, piece in ipairs(pieces) do
    -- Those with a foreign loop run where that loop is; other machines' runs have those of README and of the calls.
    local everywhere = not piece.code:find "cqueues" and (piece.file == "README" or piece.file == "calls")
    it(("%s works, piece %d%s"):format(piece.file, piece.number, everywhere and "" or " #host"), function()
      local before = e:arrived(0)
      local process = run(piece.code)
      local said
      if piece.code:find "for request" and not piece.code:find "spawn" then
        e:arrived(before + 4)
        assert.equal('{"ok":true}', e:rpc_result(e:rpc(e.token, { method = "blink", params = "{}" }), 10).body)
        e:delete_device(e.token) -- ends the loop
        known = false
      end
      said = process:read "a"
      process:close()
      assert.truthy(said:find "status 0\n$", said)
      assert.falsy(said:find("a task failed", 1, true), said)
      for _, request in ipairs(e:requests()) do
        local is_poll = request.target:find "/rpc%?" or request.target:find "/updates"
        if not is_poll then assert.equal(200, request.status, request.target) end
      end
    end)
  end
end)
