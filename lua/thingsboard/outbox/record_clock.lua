--- Decides what time the records of an outbox get, and when the time is known.
--
-- A device without a battery starts with a clock that is years or hours behind, and looks right. So the system's clock
-- is not believed before somebody confirms it: the script, a file that a hook of NTP makes, or the `Date` of an answer
-- of ThingsBoard, to within a minute. If the `Date` differs by more, it is taken for the time, unless `server_time`
-- is false. Until the time is known, records have the time since the system's start.
-- @module thingsboard.outbox.record_clock
local core = require "thingsboard.core"

local clock = {}
clock.__index = clock

local MINUTE = 60 * 1000
-- Times that are found from before may lie ahead, when many came at once; what lies further ahead is another's word.
local MOST_AHEAD = MINUTE
local DATE_ERROR = 1500 -- milliseconds: a `Date` has whole seconds, and some way to go
-- A `Date` may be as old as its exchange has taken: on a slow link, or where a busy script has read it late. From one
-- that took longer than this the time is not taken, unless so many before it did.
local PROMPT, LATE = 2000, 3 -- milliseconds
local CHECK_EVERY = 60 -- seconds between looks at the `Date`, once the time is known

local override -- what the script has said: true, false, or nil for nothing
local hook_file -- the clock is known once it is there
local clocks = setmetatable({}, { __mode = "k" }) -- a set

local function is_there(path)
  local file <close> = path and io.open(path)
  return file ~= nil
end

-- Tells the spool; what was to be followed while nobody knew the time can be followed now.
local function update(self)
  if override then
    self.spool:set_clock_policy "wall"
  elseif override == false then
    self.spool:set_clock_policy(self.by_server and "fixed" or nil, self.offset)
  else
    self.spool:set_clock_policy(self.offset and "confirmed" or nil, self.offset)
  end
  if not self:offset_now() then return end
  for time, most in next, self.to_follow do
    self.spool:follow(time, most)
    self.to_follow[time] = nil
  end
  if self.on_known then self.on_known() end
end

-- Whether the hook has made its file since this was asked last: the script needs to say nothing, then.
local function look()
  if override ~= nil or not is_there(hook_file) then return false end
  override = true
  for one in next, clocks do update(one) end
  return true
end

--- Says, or tells, whether the system's clock is known.
-- @tparam ?boolean|string known whether it is, or the name of a file: it is known once that is there
-- @treturn boolean
function clock.known(known)
  if type(known) == "string" then
    hook_file, override = known, nil
  elseif known ~= nil then
    override = known
  end
  if known ~= nil then
    for one in next, clocks do update(one) end
  end
  look()
  if override ~= nil then return override end
  for one in next, clocks do
    if one:offset_now() then return true end
  end
  return false
end

--- Sees to the times that a spool gives to records.
-- @tparam userdata spool
function clock.new(spool)
  local self = setmetatable({
    spool = spool,
    offset = nil, -- what was confirmed, or a server has said, or another process knew: to be added to an uptime
    by_server = false, -- the server has given it, not the system's clock
    refused_at = nil, -- the wall clock's offset when a server's time was refused
    late = 0, -- answers in a row that were too late to take their time
    check_at = 0, -- when a `Date` is to be looked at again, seconds of the monotonic clock
    to_follow = {}, -- times that were found while nobody knew the time, and how far ahead they may lie
    on_known = nil, -- to be called when the time is, or may be another
  }, clock)
  clocks[self] = true
  update(self)
  return self
end

-- Milliseconds since 1970 of a `Date` of HTTP, `Tue, 24 Nov 2026 23:04:33 GMT`; nil when it is none.
local function parse(date)
  local day, name, year, hour, minute, second = date:match("^%a+, (%d+) (%a+) (%d+) (%d+):(%d+):(%d+) GMT$")
  local month = name and ("JanFebMarAprMayJunJulAugSepOctNovDec"):find(name, 1, true)
  if not month or month % 3 ~= 1 then return nil end
  month = month // 3 + 1
  -- Days since 1970 by the calendar of years that begin in March.
  local y, m = tonumber(year), (month + 9) % 12
  if month <= 2 then y = y - 1 end
  local days = 365 * y + y // 4 - y // 100 + y // 400 + (153 * m + 2) // 5 + tonumber(day) - 719469
  return (((days * 24 + tonumber(hour)) * 60 + tonumber(minute)) * 60 + tonumber(second)) * 1000
end

--- Whether a `Date` is of use now.
-- @treturn boolean
function clock:wants_date()
  return not override and (core.monotonic() >= self.check_at or not self:offset_now())
end

--- Whether to ask a server for the time: not again after its time was refused, unless the clock has been set since.
-- @tparam integer uptime milliseconds since the system's start
-- @treturn boolean
function clock:may_ask(uptime)
  return not self.refused_at or math.abs(core.now() - uptime - self.refused_at) > MINUTE
end

--- Learns the time from a server's `Date`.
-- @tparam string date of HTTP
-- @tparam integer uptime milliseconds since the system's start
-- @tparam ?integer took milliseconds since the request was sent; nil for a poll, of which that says nothing
-- @tparam boolean believe the server may give the time itself
function clock:hear(date, uptime, took, believe)
  local time = parse(date)
  if not time then return end
  local server, wall = time + 500 - uptime, core.now() - uptime
  if override == nil and math.abs(wall - server) <= MINUTE then
    self.offset, self.by_server, self.refused_at = wall, false, nil
  elseif not took or took > PROMPT and self.late < LATE then
    if took then self.late = self.late + 1 end
    return
  elseif believe then
    -- What it has said before, and is right, does not change by parts of a second.
    if not self.offset or math.abs(self.offset - server) > DATE_ERROR then self.offset = server end
    self.by_server, self.refused_at = true, nil
  else
    self.refused_at = wall
  end
  self.late = 0
  self.check_at = core.monotonic() + CHECK_EVERY
  update(self)
end

--- What another process knew in this start of the system.
-- @tparam integer offset milliseconds to be added to an uptime
function clock:recall(offset)
  if self.offset then return end
  self.offset = offset
  update(self)
end

--- The offset from the time since the system's start to the time since 1970; nil when it is unknown.
-- @treturn ?integer milliseconds
function clock:offset_now()
  return self.spool:offset()
end

--- If the time is unknown, checks whether it has become known.
-- @treturn boolean
function clock:look()
  return look() or self:offset_now() ~= nil
end

--- Advances past a timestamp that was given before, unless it is too far ahead to be one.
-- @tparam integer time milliseconds
-- @tparam[opt=60000] ?integer most milliseconds that it may lie ahead
function clock:follow(time, most)
  if self:offset_now() then return self.spool:follow(time, most or MOST_AHEAD) end
  self.to_follow[time] = most or MOST_AHEAD
end

--- The last timestamp given, if it is ahead of the true time: there were more records than milliseconds, or the clock
-- was stepped back.
-- @treturn ?integer milliseconds since 1970
function clock:ahead()
  return self.spool:ahead()
end

return clock
