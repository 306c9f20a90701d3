--- The iterator over what polls bring, and the tasks that poll for it.
-- @module thingsboard.http.iterator
local errors = require "thingsboard.error"

local M = {}

local iterator = {}
iterator.__index = iterator
iterator.__name = "thingsboard.iterator"

-- Seconds until the next try, when memory has run out.
local SHORT_OF_MEMORY = 1

--- A new iterator, for a `for` loop. It is closed by leaving the loop, by closing the device, and by the collector.
-- When it ended by itself, its field `error` says why; being closed is no error.
-- @tparam table client
-- @tparam function next_values returns the next values, or nil and perhaps an error at the end; nil after `close`
-- @tparam function close called once
function M.new(client, next_values, close)
  local it = setmetatable({ next_values = next_values, on_close = close }, iterator)
  client:bind(it)
  return it, nil, nil, it
end

function iterator:__call()
  if not self.on_close then return nil, self.error end
  local first, second = self.next_values()
  if first == nil then
    self.error = second
    self:close()
    return nil, second
  end
  return first, second
end

--- Ends the polls. Idempotent.
function iterator:close()
  local close = self.on_close
  self.on_close = nil
  if close then close() end
end

iterator.__close = iterator.close
iterator.__gc = iterator.close

-- Made in advance: when it is needed, there is no memory to make it.
local no_memory = errors.new("memory", "the polls ended: " .. errors.NO_MEMORY, { retryable = true })

--- Runs a function that polls for an iterator. When it runs out of memory it is run again a second later. If memory is
-- still short then, the iterator ends, rather than wait for ever.
-- @tparam table loop
-- @tparam function finish ends the iterator: called with the state, and an error if there is one
-- @tparam function body called with the state and what follows it
-- @tparam table state
-- @param ...
function M.run_poll(loop, finish, body, state, ...)
  while true do
    local ok, raised = pcall(body, state, ...)
    if ok then return end
    local short = raised == errors.NO_MEMORY
    if not short or not pcall(loop.sleep, loop, SHORT_OF_MEMORY) then
      finish(state, short and no_memory or nil)
      if not short then error(raised, 0) end
      return
    end
  end
end

--- Lowers the signal that an iterator waits for. If it was raised because there was no memory for a task, this ends the
-- iterator.
-- @tparam signal signal
-- @tparam function finish as that of `run_poll`
-- @tparam table state
function M.lower(signal, finish, state)
  if signal.raised == errors.NO_MEMORY then finish(state, no_memory) end
  signal:lower()
end

--- Waits for the signal of an iterator, in the function that returns its next values, which `next_values` calls last:
-- so level 4 is the script.
function M.wait(loop, signal)
  if loop.waiting[signal] then error("another task iterates over this already", 4) end
  loop:wait(signal)
end

--- Ends a task of an iterator. The task that is running is left alone: the collector ran there, and
-- the task notices by itself that the iterator has ended.
function M.stop(task)
  if not task:is_running() then task:cancel() end
end

return M
