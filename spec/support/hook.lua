--- A debug hook in every coroutine, those that there will be included.
-- @tparam function hook as for `debug.sethook`
-- @tparam string mask
-- @tparam ?integer count
return function(hook, mask, count)
  local create = coroutine.create
  debug.sethook(hook, mask, count)

  function coroutine.create(body) -- luacheck: ignore 122
    local thread = create(body)
    debug.sethook(thread, hook, mask, count)
    return thread
  end

  local function passed_on(ok, ...)
    if not ok then error((...), 0) end
    return ...
  end

  function coroutine.wrap(body) -- luacheck: ignore 122
    local thread = coroutine.create(body)
    return function(...) return passed_on(coroutine.resume(thread, ...)) end
  end
end
