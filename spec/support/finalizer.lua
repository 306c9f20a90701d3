--- Runs something in the midst of a call, as the finalizer of garbage may at any time.
local finalizer = {}

--- Calls `body` while the collector is always at work; its `at`-th finalizer there calls `act`.
-- @tparam number at
-- @tparam function act
-- @tparam function body
-- @treturn boolean whether `act` was called
-- @return what `pcall` of `body` returned
function finalizer.within(at, act, body)
  collectgarbage("incremental", 1, 1000, 22) -- whenever it comes to its turn, it goes round
  local left, over = at, false
  local function arm()
    setmetatable({}, { __gc = function()
      if over then return end
      left = left - 1
      if left > 0 then return arm() end
      over = true
      act()
    end })
  end
  collectgarbage()
  arm()
  local results = table.pack(pcall(body))
  over = true
  collectgarbage("incremental", 200, 100, 13) -- as Lua begins
  return left <= 0, table.unpack(results, 1, results.n)
end

return finalizer
