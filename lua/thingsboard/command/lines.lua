--- Reads lines of JSON from the standard input in batches: each has the lines that arrived during the last one.
-- @module thingsboard.command.lines
local context = require "thingsboard.command.context"
local errors = require "thingsboard.error"
local json = require "thingsboard.json.decode"
local payload = require "thingsboard.json.payload"

local MOST_LINES <const> = 1000 -- of a batch; its bytes are what one read gives, with the rest of the last one
local LONGEST_LINE <const> = 1024 * 1024

local lines = {}

-- Returns lines as they arrive, without line ends; it waits only when no whole line has arrived.
local function new_reader()
  local reader = {
    rest = "", ended = false,
    err = nil, -- why it ended early
  }

  -- Whether there is a line now, or the end.
  function reader:has_one()
    return self.ended or self.rest:find("\n", 1, true) ~= nil
  end

  function reader:fill()
    local text, err = context.read_some()
    self.ended, self.err = text == "" or err ~= nil, err
    self.rest = self.rest .. (text or "")
    if #self.rest > LONGEST_LINE and not self:has_one() then
      self.rest, self.ended = "", true
      self.err = errors.new("other", "a line of more than a megabyte: given up")
    end
  end

  function reader:next()
    while not self:has_one() do self:fill() end
    if self.rest == "" then return nil end
    local line, rest = self.rest:match "^([^\n]*)\n?(.*)$"
    self.rest = rest
    return line
  end

  return reader
end

-- The values of a line; nil when they cannot be sent, which is told.
local function decode(line, number)
  local value = json.decode(line)
  if not json.is_object(value) or next(value) == nil then
    return context.complain(("line %d is no JSON object with values, and is left out"):format(number))
  end
  local ok, text, err = pcall(payload.telemetry, ("line %d is left out"):format(number), value)
  if ok and text then return value end
  context.complain(ok and err or context.mistake(text))
end

--- Calls a function with each batch, a list of tables, until the input ends or the function fails.
-- @tparam function handle returns true, or nil and an error
-- @treturn integer the exit code: 1 when lines were left out; that of the error when the function failed
function lines.each_batch(handle)
  local reader, number, code = new_reader(), 0, context.codes.done
  while true do
    local batch = {}
    while #batch < MOST_LINES and (batch[1] == nil or reader:has_one()) do
      local line = reader:next()
      if line == nil then break end
      number = number + 1
      if line:find "%S" then
        local value = decode(line, number)
        if not value then code = context.codes.other end
        batch[#batch + 1] = value
      end
    end
    if batch[1] == nil then return reader.err and context.fail(reader.err) or code end
    local ok, err = handle(batch)
    if not ok then
      context.complain(("given up at line %d"):format(number))
      return context.fail(err)
    end
  end
end

return lines
