--- Rate limits of the server that the sender keeps to: how much may be sent in how much time.
-- @module thingsboard.outbox.rate_limit
local core = require "thingsboard.core"

local budget = {}
budget.__index = budget

--- @tparam ?string notation the server's own, `"20:1,600:60"`: 20 in any second and 600 in any minute; nil for no bound
-- @treturn[1] table
-- @treturn[2] nil when the notation makes no sense
function budget.new(notation)
  local bands = setmetatable({}, budget)
  for part in (notation or ""):gmatch("[^,]+") do
    local count, seconds = part:match("^%s*(%d+):(%d+)%s*$")
    count, seconds = math.tointeger(tonumber(count)), tonumber(seconds)
    if not count or count < 1 or seconds < 1 then return nil end
    bands[#bands + 1] = { most = count, seconds = seconds, used = 0, spent = {}, first = 1, last = 0 }
  end
  if notation and not bands[1] then return nil end
  return bands
end

local function forget(band, now)
  while band.first <= band.last and band.spent[band.first].at + band.seconds <= now do
    band.used = band.used - band.spent[band.first].amount
    band.spent[band.first] = nil
    band.first = band.first + 1
  end
end

--- How much may be sent now.
-- @treturn integer `math.maxinteger` without a bound
function budget:room()
  local room, now = math.maxinteger, core.monotonic()
  for _, band in ipairs(self) do
    forget(band, now)
    room = math.min(room, band.most - band.used)
  end
  return room
end

--- When something may be sent again that may not now.
-- @tparam integer amount
-- @treturn number seconds of the monotonic clock
function budget:free_at(amount)
  local at = 0
  for _, band in ipairs(self) do
    local missing = math.min(amount, band.most) - (band.most - band.used)
    for i = band.first, band.last do
      if missing <= 0 then break end
      missing = missing - band.spent[i].amount
      at = math.max(at, band.spent[i].at + band.seconds)
    end
  end
  return at
end

--- Counts what is being sent. Its interval begins when `done` is called, that is, with the server's answer: the server
-- has counted it by then.
-- @tparam integer amount
-- @treturn function done
function budget:spend(amount)
  local entries = {}
  for i, band in ipairs(self) do
    local entry = { at = math.huge, amount = amount }
    band.last = band.last + 1
    band.spent[band.last] = entry
    band.used = band.used + amount
    entries[i] = entry
  end
  return function()
    for _, entry in ipairs(entries) do entry.at = core.monotonic() end
  end
end

return budget
