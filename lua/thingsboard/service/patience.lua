--- Tries something until it works: with growing pauses, which end when the server is there again, and a line in the log
-- when it fails and when it works again.
-- @module thingsboard.service.patience
local backoff = require "thingsboard.http.backoff"
local core = require "thingsboard.core"
local errors = require "thingsboard.error"
local outage = require "thingsboard.service.outage"

local patience = {}

--- Seconds: the longest first wait, and the longest wait of all.
patience.first_pause, patience.longest_pause = 1, 300

-- What worked for this many seconds before it failed is tried again soon.
local WORKED <const> = 60

--- Calls a function until it returns something; what it raises counts as a failure.
-- @tparam table server of `thingsboard.http.server`
-- @tparam table log
-- @tparam string what for the log
-- @tparam function try returns a value, or nil and the error; called with a function that it may call to say that it
-- works, though it has not returned. A 401 is not logged here, but by `thingsboard.service.link`.
-- @return the value
function patience.keep(server, log, what, try)
  local pause, failing = backoff.new(patience.first_pause, patience.longest_pause), outage.new(log)
  local function works() failing:is_over("%s: works again", what) end
  while true do
    local from = core.monotonic()
    local ok, value, err = pcall(try, works)
    if ok and value then
      works()
      return value
    end
    local why = not ok and value or err or "it ended"
    if core.monotonic() - from > WORKED then pause:reset() end
    if not (errors.is(why) and why.status == 401) then
      failing:goes_on("%s: %s; it is tried again", what, errors.text_of(why))
    end
    server:wait(pause)
  end
end

return patience
