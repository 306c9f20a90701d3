--- Tries something until it works: with growing pauses, and a line in the log when it fails and when it works again.
-- @module thingsboard.service.patience
local backoff = require "thingsboard.http.backoff"
local core = require "thingsboard.core"
local errors = require "thingsboard.error"

local patience = {}

--- Seconds: the longest first wait, and the longest wait of all.
patience.first_pause, patience.longest_pause = 1, 300

-- What worked for this many seconds before it failed is tried again soon.
local WORKED <const> = 60

--- Calls a function until it returns something; what it raises counts as a failure.
-- @tparam table loop
-- @tparam table log
-- @tparam string what for the log
-- @tparam function try returns a value, or nil and the error
-- @return the value
function patience.keep(loop, log, what, try)
  local pause, told = backoff.new(patience.first_pause, patience.longest_pause), nil
  while true do
    local from = core.monotonic()
    local ok, value, err = pcall(try)
    if ok and value then
      if told then log:info("%s: works again", what) end
      return value
    end
    local why = errors.text_of(not ok and value or err or "it ended")
    if core.monotonic() - from > WORKED then
      pause:reset()
      told = nil
    end
    if why ~= told then log:warning("%s: %s; it is tried again", what, why) end
    told = why
    loop:sleep(pause:next())
  end
end

return patience
