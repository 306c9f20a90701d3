-- A slice of `make torture-network`: namespaces of their own, and the cable between them fails in two ways.
local network = require "spec.support.network"

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
