--- Finalizers that the collector runs in the midst of a call.
local finalizers = {}

-- Lua 5.5 sets one parameter of the collector at a time.
local function incremental(pause, multiplier, step)
  if _VERSION == "Lua 5.4" then return collectgarbage("incremental", pause, multiplier, step) end
  collectgarbage "incremental"
  collectgarbage("param", "pause", pause)
  collectgarbage("param", "stepmul", multiplier)
  collectgarbage("param", "stepsize", step)
end

-- A whole cycle wherever one may run, and the defaults.
local EVERYWHERE = _VERSION == "Lua 5.4" and { 1, 1000, 22 } or { 1, 0, 1 }
local DEFAULTS = _VERSION == "Lua 5.4" and { 200, 100, 13 } or { 250, 200, 11200 }

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
  incremental(table.unpack(EVERYWHERE))
  collectgarbage()
  arm()
  work()
  live = false
  incremental(table.unpack(DEFAULTS))
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
