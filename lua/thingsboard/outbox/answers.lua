--- What the server or the disk says about a record, and what becomes of the record. The guide shows the same table.
-- @module thingsboard.outbox.answers
local answers = {}

--- Each row: `said`, `becomes` and `counter`, in the guide's words; where the sender decides it by the status of
-- ThingsBoard's own answer, `action`, what it does, and the `statuses`.
answers.rows = {
  { said = "200 with an empty body",
    becomes = "it stays in the file until two markers have come back, then it leaves; with `confirm = false` at once",
    counter = "`sent.records`, then `sent.confirmed`" },
  { said = "a marker does not come back, or the server may have been restarted",
    becomes = "what is not confirmed is sent again", counter = "`sent.again`" },
  { action = "refused", statuses = { 400, 403, 415, 500 },
    said = "400, 403, 415, or a 500 that does not speak of a limit",
    becomes = "the batch is halved until one record is alone. That one waits until the others are sent, is tried " ..
      "again between posts that pass, and is set aside once this has proved it bad",
    counter = "`lost.rejected`" },
  { action = "too_large", statuses = { 413 }, said = "413",
    becomes = "posts get smaller, and grow again; a record that is too large alone is treated like one that is refused",
    counter = "`lost.rejected`" },
  { action = "limited", statuses = { 429 }, said = "429, be it a proxy's, or a 500 that speaks of a limit",
    becomes = "it is sent again, more slowly and in smaller posts", counter = "`limits`" },
  { action = "ended", statuses = { 401, 404 }, said = "401, 404",
    becomes = "it waits; `run` and `drain` end with this error", counter = "`err`" },
  { said = "anything else: no answer, 408, 502 to 504, an answer that is not ThingsBoard's",
    becomes = "it waits for at most 5 minutes, or until another call of the process to this server succeeds",
    counter = "`err`" },
  { said = "the disk has no room for removing it",
    becomes = "it is not sent again, and is removed when there is room", counter = "`trouble`" },
  { said = "the disk cannot keep it",
    becomes = "`put` fails; with `on_trouble = \"memory\"` it waits in memory, where the oldest beyond 10,000 are " ..
      "dropped",
    counter = "`trouble`, `lost.memory`" },
  { said = "the file is damaged, or was removed",
    becomes = "a damaged file is renamed to `...damaged-` and the time; a new file is begun, with what is in memory",
    counter = "`lost.damaged` (files)" },
  { said = "the outbox is full, or its file may get no longer (`ulimit -f`)",
    becomes = "the oldest is dropped; with `when_full = \"refuse\"` `put` fails",
    counter = "`lost.full`, `lost.refused`; `lost.unconfirmed` if it was sent and not confirmed" },
  { said = "it is too large for the room that the file could have",
    becomes = "`put` and `attributes` fail, and nothing is dropped for it", counter = "`lost.refused`" },
  { said = "it is older than `max_age`", becomes = "it is dropped",
    counter = "`lost.expired`; `lost.unconfirmed` likewise" },
}

local action_of = {}
for _, row in ipairs(answers.rows) do
  for _, status in ipairs(row.statuses or {}) do action_of[status] = row.action end
end

-- Whether the server's words tell of a limit, whatever the status.
local function speaks_of_limit(err)
  local said = err.message:match "%(status %d+%): (.*)$"
  said = said and said:lower()
  return said and (said:find("rate limit", 1, true) or said:find("too many", 1, true) or said:find("quota", 1, true))
end

--- Whether a refusal says nothing of its cause: a 500 without words, or with those of its status. It may be a rate
-- limit, or an accident. What it says something about, and 400, 403, 413 and 415, is refused for what it is.
-- @tparam table err the error
-- @treturn boolean
function answers.is_unclear(err)
  local said = err.message:match "%(status 500%)(.*)$"
  return said == "" or said == ": Internal Server Error"
end

--- What the sender does about the outcome of a post.
-- @tparam ?table err the error; nil when the post has passed
-- @treturn string `passed`, `refused`, `too_large`, `limited`, `ended`, `outage` or `closed`
function answers.action(err)
  if not err then return "passed" end
  if err.kind == "closed" then return "closed" end
  if err.status == 413 or err.status == 429 then return action_of[err.status] end -- the server's or a proxy's
  if err.kind ~= "http" then return "outage" end
  local action = action_of[err.status] or "outage"
  if action == "refused" and speaks_of_limit(err) then return "limited" end
  return action
end

return answers
