--- Finalizers that the collector runs in the midst of a call.
local finalizers = {}

--- Calls a function, and another in every finalizer that runs in its midst.
-- @tparam function work
-- @tparam function nested
-- @treturn table what `pcall` of `nested` gave, a list for each time
function finalizers.at_every(work, nested)
  local results, live = {}, true
  local function arm()
    setmetatable({}, { __gc = function()
      if not live then return end
      results[#results + 1] = table.pack(pcall(nested))
      arm()
    end })
  end
  collectgarbage("incremental", 1, 1000, 22) -- a whole cycle wherever it may run
  collectgarbage()
  arm()
  work()
  live = false
  collectgarbage("incremental", 200, 100, 13)
  return results
end

--- Calls a function, and another in the n-th finalizer that runs in its midst.
-- @tparam number nth
-- @tparam function act
-- @tparam function work
-- @treturn boolean whether `act` was called
-- @return what `pcall` of `work` returned
function finalizers.at(nth, act, work)
  local left, results = nth, nil
  finalizers.at_every(function() results = table.pack(pcall(work)) end, function()
    left = left - 1
    if left == 0 then act() end
  end)
  return left <= 0, table.unpack(results, 1, results.n)
end

return finalizers
