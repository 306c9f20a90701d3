-- The service killed at any moment, while a script puts: make torture-outbox kills it 200 times.
local scratch = require "spec.support.scratch"
local service = require "spec.support.service"
local tb = require "thingsboard"

local KILLS = tonumber(os.getenv "THINGSBOARD_KILLS") or 20

describe("thingsboard service", function()
  local s = service.specs()

  it("loses nothing that it has acknowledged, killed at any moment", function()
    local acknowledged = s.directory .. "/acknowledged"
    s:write("a.lua", ([[
      local tb, device = ...
      local file = assert(io.open(%q, "a+"))
      file:setvbuf "no"
      local id = 0
      for line in file:lines() do id = math.max(id, tonumber(line)) end
      while true do
        for _ = 1, 5 do
          id = id + 1
          assert(device:put { id = id })
          file:write(id .. "\n")
        end
        tb.sleep(0.002)
      end
    ]]):format(acknowledged))
    local function written()
      local file = io.open(acknowledged)
      local size = file and file:seek "end" or 0
      if file then file:close() end
      return size
    end
    for _ = 1, KILLS do
      local before = written()
      s:start()
      if math.random() < 0.9 then s:wait(function() return written() > before end) end
      tb.sleep(math.random() * 0.05)
      s:kill()
    end
    s:start()
    local wanted = {}
    for line in io.lines(acknowledged) do wanted[#wanted + 1] = tonumber(line) end
    assert.is_true(#wanted > KILLS, "only " .. #wanted .. " were put")
    s:wait(function()
      local arrived = {}
      for _, value in ipairs(s:values "id") do arrived[tonumber(value)] = true end
      for _, id in ipairs(wanted) do if not arrived[id] then return false end end
      return true
    end, 60)
    s:stop()
    for _, name in ipairs(scratch.files(s.directory)) do assert.is_nil(name:find "damaged") end
  end)
end)
