-- A slice of `make torture-network`: namespaces of their own, and the cable between them fails in two ways.
local network = require "spec.support.network"
local scratch = require "spec.support.scratch"

describe("a network that fails", function()
  local why = network.missing()
  local running = {}

  setup(function()
    if why then return end
    for _, name in ipairs { "a short silence", "another address of the device's" } do
      for _, transport in ipairs { "plain", "TLS" } do
        running[name .. transport] =
          network.run("spec/torture/network.lua", ("--inside %q %s"):format(name, transport))
      end
    end
  end)

  local function costs_nothing(name)
    if why then return pending("no network of namespaces: " .. why) end
    for _, transport in ipairs { "plain", "TLS" } do
      local process = running[name .. transport]
      local said = process:read "a"
      assert.is_true(process:close() or false, transport .. ": " .. said)
    end
  end

  it("by a silence of some seconds loses nothing that the server keeps", function() costs_nothing "a short silence" end)

  it("by another address of the device's is noticed, over HTTP/2 too", function()
    costs_nothing "another address of the device's"
  end)
end)

describe("a server on the link, by an address with a zone,", function()
  it("is reached whatever its interface is called", function()
    local why = network.missing()
    if why then return pending("no network of namespaces: " .. why) end
    local folder = scratch.new()
    finally(function() scratch.remove(folder) end)
    local file <close> = assert(io.open(folder .. "/zones.lua", "w"))
    file:write [[
      local socket = require "socket"
      local tb = require "thingsboard"
      local names = { "br-lan", "eth0.1", "wlan0-1", "x_1" }
      assert(os.execute "ip link set lo up")
      for n, name in ipairs(names) do
        assert(os.execute(("ip link add %s type veth peer name end%d"):format(name, n)))
        assert(os.execute(("ip link set %s up && ip link set end%d up"):format(name, n)))
        assert(os.execute(("ip addr add fe80::1/64 dev %s nodad"):format(name)))
      end
      local listener = assert(socket.tcp6())
      assert(listener:bind("::", 0))
      assert(listener:listen(8))
      local _, port = listener:getsockname()
      listener:settimeout(0)
      local server = tb.spawn(function()
        while true do
          local connection = listener:accept()
          if connection then
            connection:settimeout(5)
            repeat local line = connection:receive "*l" until not line or line == ""
            connection:send "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
            connection:close()
          end
          tb.sleep(0.01)
        end
      end)
      for _, name in ipairs(names) do
        for _, percent in ipairs { "%", "%25" } do
          local url = ("http://[fe80::1%s%s]:%d"):format(percent, name, port)
          local dev <close> = tb.device { url = url, token = "T", timeout = 5 }
          for time = 1, 3 do -- the path is the same, which libcurl may have parsed already
            local ok, err = dev:request_attributes()
            if not ok then print(url, time, err) end
          end
        end
      end
      for _, host in ipairs { "[fe80::1%none0]", "[fe80::1]" } do
        local dev <close> = tb.device { url = "http://" .. host .. ":" .. port, token = "T", timeout = 5 }
        local _, err = dev:request_attributes()
        if not tostring(err):find("this address needs one, as in [fe80::1%eth0]", 1, true) then print(err) end
      end
      server:cancel()
      print "all reached"
    ]]
    file:flush()
    local process <close> = network.run(folder .. "/zones.lua", "")
    assert.equal("all reached\n", process:read "a")
  end)
end)
