-- How a poll judges what it meets, seen from the attempts that it makes.
local socket = require "socket"
local client = require "thingsboard.client"
local tb = require "thingsboard"

describe("a poll", function()
  it("waits ever longer when there is no connection to be had", function()
    local deaf = assert(socket.bind("127.0.0.1", 0, 0))
    local _, port = deaf:getsockname()
    local full = {} -- its queue: more, and the system answers no more
    for n = 1, 4 do
      full[n] = socket.tcp()
      full[n]:settimeout(0)
      full[n]:connect("127.0.0.1", port)
    end
    local attempts, start = 0, client.start
    client.start = function(...) -- luacheck: ignore 122
      attempts = attempts + 1
      return start(...)
    end
    local dev = tb.device { url = "http://127.0.0.1:" .. port, token = "T", connect_timeout = 0.2 }
    do
      local requests <close> = dev:rpc_requests { period = 0.1 }
      tb.sleep(8)
      client.start = start -- luacheck: ignore 122
      assert.is_function(getmetatable(requests).__call)
    end
    dev:close()
    for _, other in ipairs(full) do other:close() end
    deaf:close()
    -- Two polls. Were every wait as short as the first, it would be 60 attempts; doubling it is about 14.
    assert.is_true(attempts >= 4 and attempts <= 36, "attempts: " .. attempts)
  end)
end)
