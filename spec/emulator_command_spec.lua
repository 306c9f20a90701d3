-- `thingsboard emulator`, in a clone and installed.
local http = require "socket.http"
local command = require "spec.support.command"
local scratch = require "spec.support.scratch"

describe("thingsboard emulator #host", function()
  it("serves devices and a page, until it is interrupted", function()
    local process, pid = command.start { "emulator", "--async-timeout", "1000", "--port", "0" }
    local url, token = process:read("l"):match "^(http://127%.0%.0%.1:%d+) (%S+)$"
    local page = process:read("l"):match "^the page: (http://%S+)$"
    local body, status = http.request(page)
    assert.equal(200, status)
    assert.truthy(body:find("<title>ThingsBoard emulator</title>", 1, true))
    assert.equal(200, select(2, http.request(url .. "/api/v1/" .. token .. "/attributes")))
    assert.truthy(process:read("l"):find "GET .* %-> 200")
    os.execute("kill -INT " .. pid)
    assert.is_true(process:close())
  end)

  it("tells how it is used", function()
    local code, out = command.run { "emulator", "--help" }
    assert.equal(0, code)
    assert.matches("^usage: thingsboard emulator ", out)
  end)

  it("is found where it is installed, and missed where it is not", function()
    local directory = scratch.new()
    local tree = directory .. "/usr"
    local line = ("LUA_PATH='%s/share/lua/5.4/?.lua;%s/share/lua/5.4/?/init.lua;;' LUA_CPATH='%s/lib/lua/5.4/?.so;;' "
      .. "exec %s/bin/thingsboard emulator --port 0 2>&1"):format(tree, tree, tree, tree)
    assert(os.execute("make -s install PREFIX=" .. tree .. " >/dev/null"))
    local missing = io.popen(line)
    assert.equal("thingsboard: emulator: it is not installed; on Debian, install the package thingsboard-emulator\n",
      missing:read "a")
    assert.same({ nil, "exit", 6 }, { missing:close() })
    assert(os.execute("make -s install-emulator PREFIX=" .. tree .. " >/dev/null"))
    local process = io.popen("echo $$; cd /; " .. line)
    local pid = process:read "l"
    assert.truthy(process:read("l"):find "^http://127%.0%.0%.1:%d+ ")
    local page = process:read("l"):match "^the page: (http://%S+)$"
    assert.equal(200, select(2, http.request(page .. "main.js")))
    os.execute("kill -TERM " .. pid)
    process:close()
    scratch.remove(directory)
  end)
end)
