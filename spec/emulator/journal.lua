--- What arrived, for specs to look at and for people to read.
local cqueues = require "cqueues"
local condition = require "cqueues.condition"
local socket = require "socket"

local journal = {}

local MOST_KEPT = 16384 -- bytes of an answer's body

local Journal = {}
Journal.__index = Journal

--- Makes an empty journal.
function journal.new(settings)
  return setmetatable({
    settings = settings, entries = {}, connections = 0, requests = 0, more = condition.new(),
  }, Journal)
end

--- Number for a new connection.
function Journal:next_connection()
  self.connections = self.connections + 1
  return self.connections
end

--- Notes a request.
function Journal:arrived(entry)
  entry.at = socket.gettime()
  local entries = self.entries
  entries[#entries + 1] = entry
  self.requests = self.requests + 1
  entry.id = self.requests
  self.more:signal()
  if #entries > 2 * self.settings.journal_size then
    self.entries = table.move(entries, #entries - self.settings.journal_size + 1, #entries, 1, {})
  end
  return entry
end

--- Notes the answer.
function Journal:answered(entry, answer)
  entry.status, entry.why = answer.status, answer.why
  if not self.keeps_answers then return end
  entry.answer = { headers = answer.headers, body = answer.body:sub(1, MOST_KEPT), size = #answer.body }
end

--- Notes that it has ended, answered or not.
function Journal:ended(entry)
  entry.ended_at = socket.gettime()
  if self.print then self.print(entry) end
end

--- Waits until so many requests have arrived, some seconds at most; returns how many have.
function Journal:wait_for(count, seconds)
  local deadline = cqueues.monotime() + seconds
  while self.requests < count and cqueues.monotime() < deadline do self.more:wait(deadline - cqueues.monotime()) end
  return self.requests
end

--- The request of an id, or nil when it is no longer kept.
function Journal:find(id)
  local first = self.entries[1]
  return first and self.entries[id - first.id + 1]
end

--- Forgets everything.
function Journal:clear() self.entries = {} end

--- Prints a line for every request from now on.
function Journal:print_to(file)
  self.print = function(entry)
    local body = entry.body or ""
    if #body > 200 then body = ("%s... (%d bytes)"):format(body:sub(1, 200), #body) end
    body = body:gsub("[%c]", function(char) return ("\\x%02x"):format(char:byte()) end)
    file:write(("%s %s %s -> %s %s\n"):format(os.date("%H:%M:%S", math.floor(entry.at)), entry.method or "-",
      entry.target or "-", entry.status or "nothing", body))
    file:flush()
  end
end

return journal
