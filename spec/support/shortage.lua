--- For a process in which oom.c is preloaded, and named by OOM: calls something again and again, with the first,
-- the second, the third ... allocation failing, once and from then on.
local MOST = 150 -- allocations that fail in turn: where there are more, they are spread

local oom = package.loadlib(os.getenv "OOM", "luaopen_oom")()

-- Blocks of memory that are in use when all garbage is gone.
local function live_blocks()
  collectgarbage()
  collectgarbage()
  return oom.live()
end

--- @tparam function prepare makes what is needed beforehand
-- @tparam function act is called with that while memory runs out; where it fails it raises, or returns nil and an error
-- @tparam function check is called with that and whether it succeeded, with memory there again
-- @treturn integer how often it failed
-- @treturn integer how many more blocks of memory are in use than before it did
return function(prepare, act, check)
  local failures, before = 0, 0
  for _, sticky in ipairs { false, true } do
    local n, all, stride = 0, 0, 1 -- at first none fails
    while n <= all do
      if n == 1 and not sticky then before = live_blocks() end -- what is made once is there
      local made <close> = prepare()
      local count, returned, result, why = oom.attempt(n, sticky, function() return act(made) end)
      local well = returned and result ~= nil
      if n == 0 then all, stride = count, math.max(1, count // MOST) end
      if not well then
        failures = failures + 1
        local said = returned and why or result
        assert(n > 0 and (said:find "memory" or said:find "disk I/O error" or said:find "unable to open"), said)
      end
      check(made, well)
      n = n == 0 and 1 or n + stride
    end
  end
  return failures, live_blocks() - before
end
