--- The lenient JSON reader of the server, Gson's, with its messages to the column.
-- Values are tables with a `kind`; numbers and strings keep their text.
local text = require "spec.emulator.text"

local gson = {}

--- The one JSON null.
gson.null = { kind = "null" }

local NESTING_LIMIT = 255
local LONGEST_NUMBER = 1023 -- the reader's buffer: a longer literal is taken for a bare word
local LITERAL = "^[^/\\;#={}%[%]:, \t\f\r\n]+"
local ADVICE = "\nSee https://github.com/google/gson/blob/main/Troubleshooting.md#malformed-json"
local NOT_STRICT = "Use JsonReader.setStrictness(Strictness.LENIENT) to accept malformed JSON"

--- Makes the text of a string literal's value into a value.
function gson.string(value) return { kind = "string", text = value } end

--- Makes a number of its text.
function gson.number(digits) return { kind = "number", text = digits } end

--- Makes a boolean.
function gson.boolean(value) return { kind = "boolean", value = value } end

--- Makes an empty object; its keys keep their order.
function gson.object() return { kind = "object", keys = {}, values = {} } end

--- Sets a member: a key that is there already keeps its place.
function gson.set(object, key, value)
  if object.values[key] == nil then object.keys[#object.keys + 1] = key end
  object.values[key] = value
end

local function matches_number(literal)
  local rest = literal:match("^%-?0()") or literal:match("^%-?[1-9]%d*()")
  if not rest then return false end
  rest = literal:match("^%.%d+()", rest) or rest
  rest = literal:match("^[eE][+-]?%d+()", rest) or rest
  return rest == #literal + 1
end

local Reader = {}
Reader.__index = Reader

function Reader:location()
  local consumed = self.text:sub(self.first, self.at - 1)
  local _, lines = consumed:gsub("\n", "")
  local line_start = consumed:match(".*\n()") or 1
  local path = { "$" }
  for _, frame in ipairs(self.frames) do
    path[#path + 1] = frame.index and "[" .. frame.index .. "]" or "." .. (frame.name or "")
  end
  return (" at line %d column %d path %s"):format(
    lines + 1, text.utf16_length(consumed:sub(line_start)) + 1, table.concat(path))
end

function Reader:malformed(what, advice)
  error({ message = "com.google.gson.stream.MalformedJsonException: " .. what .. self:location()
    .. (advice or ADVICE) }, 0)
end

function Reader:end_of_input()
  error({ message = "java.io.EOFException: End of input" .. self:location(), at_end = true }, 0)
end

-- Returns the next character that is neither blank nor in a comment, and steps behind it.
function Reader:next_character()
  local source = self.text
  while true do
    local start = source:find("[^ \n\r\t]", self.at)
    if not start then
      self.at = #source + 1
      self:end_of_input()
    end
    local char = source:sub(start, start)
    self.at = start + 1
    if char == "#" then
      self.at = source:find("[\r\n]", self.at) or #source + 1
    elseif char == "/" and source:sub(start + 1, start + 1) == "*" then
      local _, finish = source:find("*/", start + 2, true)
      if not finish then
        self.at = math.max(start + 2, #source)
        self:malformed("Unterminated comment")
      end
      self.at = finish + 1
    elseif char == "/" and source:sub(start + 1, start + 1) == "/" then
      self.at = source:find("[\r\n]", start + 2) or #source + 1
    else
      return char
    end
  end
end

local escapes = { t = "\t", b = "\b", n = "\n", r = "\r", f = "\f",
  ["\n"] = "\n", ["'"] = "'", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

function Reader:unicode_escape()
  local digits = self.text:sub(self.at, self.at + 3)
  if #digits < 4 then self:malformed("Unterminated escape sequence") end
  if not digits:find("^%x%x%x%x$") then self:malformed("Malformed Unicode escape \\u" .. digits) end
  self.at = self.at + 4
  return tonumber(digits, 16)
end

function Reader:escape()
  local char = self.text:sub(self.at, self.at)
  if char == "" then self:malformed("Unterminated escape sequence") end
  self.at = self.at + 1
  if char ~= "u" then
    return escapes[char] or self:malformed("Invalid escape sequence")
  end
  local code = self:unicode_escape()
  if code >= 0xD800 and code <= 0xDBFF then
    local low = tonumber(self.text:match("^\\u([dD][c-fC-F]%x%x)", self.at) or "", 16)
    if low then
      self.at = self.at + 6
      return utf8.char(0x10000 + ((code & 0x3FF) << 10) + (low & 0x3FF))
    end
  end
  -- Half a pair cannot be written as UTF-8; Java writes a question mark.
  return code >= 0xD800 and code <= 0xDFFF and "?" or utf8.char(code)
end

function Reader:quoted(quote)
  local source, parts = self.text, {}
  local special = quote == '"' and '["\\]' or "['\\]"
  while true do
    local stop = source:find(special, self.at)
    if not stop then
      self.at = #source + 1
      self:malformed("Unterminated string")
    end
    parts[#parts + 1] = source:sub(self.at, stop - 1)
    self.at = stop + 1
    if source:sub(stop, stop) == quote then return table.concat(parts) end
    parts[#parts + 1] = self:escape()
  end
end

function Reader:literal(complaint)
  local literal = self.text:match(LITERAL, self.at)
  if not literal then self:malformed(complaint) end
  self.at = self.at + #literal
  return literal
end

function Reader:nest(frame)
  if #self.frames >= NESTING_LIMIT then
    self:malformed("Nesting limit " .. NESTING_LIMIT .. " reached", "")
  end
  self.frames[#self.frames + 1] = frame
  return frame
end

function Reader:array()
  local frame = self:nest({ index = 0 })
  local array = { kind = "array" }
  local char = self:next_character()
  if char ~= "]" then
    while true do
      if char == "]" or char == "," or char == ";" then
        self.at = self.at - 1 -- nothing between two commas counts as null
        array[#array + 1] = gson.null
      else
        array[#array + 1] = self:value(char)
      end
      frame.index = frame.index + 1
      char = self:next_character()
      if char == "]" then break end
      if char ~= "," and char ~= ";" then self:malformed("Unterminated array") end
      char = self:next_character()
    end
  end
  self.frames[#self.frames] = nil
  return array
end

function Reader:name(char)
  if char == '"' or char == "'" then return self:quoted(char) end
  if char ~= "}" then self.at = self.at - 1 end
  return char == "}" and self:malformed("Expected name") or self:literal("Expected name")
end

function Reader:object()
  local frame = self:nest({})
  local object = gson.object()
  local char = self:next_character()
  if char ~= "}" then
    while true do
      frame.name = self:name(char)
      char = self:next_character()
      if char == "=" then
        if self.text:sub(self.at, self.at) == ">" then self.at = self.at + 1 end
      elseif char ~= ":" then
        self:malformed("Expected ':'")
      end
      gson.set(object, frame.name, self:value(self:next_character()))
      char = self:next_character()
      if char == "}" then break end
      if char ~= "," and char ~= ";" then self:malformed("Unterminated object") end
      char = self:next_character()
    end
  end
  self.frames[#self.frames] = nil
  return object
end

function Reader:value(char)
  if char == "{" then return self:object() end
  if char == "[" then return self:array() end
  if char == '"' or char == "'" then return gson.string(self:quoted(char)) end
  if char == "]" or char == "," or char == ";" then self:malformed("Unexpected value") end
  self.at = self.at - 1
  local literal = self:literal("Expected value")
  local word = #literal <= 5 and literal:lower()
  if word == "true" then return gson.boolean(true) end
  if word == "false" then return gson.boolean(false) end
  if word == "null" then return gson.null end
  if #literal <= LONGEST_NUMBER and matches_number(literal) then return gson.number(literal) end
  return gson.string(literal)
end

function Reader:document()
  self.at = self.text:match("^[ \n\r\t]*%)%]}'\n()", self.at) or self.at
  local started, char = pcall(self.next_character, self)
  if not started then
    if char.at_end then return gson.null end
    error(char, 0)
  end
  local value = self:value(char)
  local rest = value ~= gson.null and self.text:find("[^ \n\r\t]", self.at)
  if rest then
    self.at = rest + 1
    self:malformed(NOT_STRICT)
  end
  return value
end

--- Reads a JSON text, which has to be valid UTF-8.
-- @return the value; or nil and the message that the server gives
function gson.parse(source)
  local first = source:sub(1, 3) == "\u{FEFF}" and 4 or 1
  local reader = setmetatable({ text = source, first = first, at = first, frames = {} }, Reader)
  local read, value = pcall(reader.document, reader)
  if read then return value end
  if type(value) ~= "table" then error(value, 0) end
  return nil, value.message
end

local escaped = { ['"'] = '\\"', ["\\"] = "\\\\", ["\t"] = "\\t", ["\b"] = "\\b", ["\n"] = "\\n",
  ["\r"] = "\\r", ["\f"] = "\\f", ["\u{2028}"] = "\\u2028", ["\u{2029}"] = "\\u2029" }

--- Writes a string literal.
function gson.quote(string)
  string = string:gsub('[%c"\\]', function(char)
    return escaped[char] or char ~= "\x7F" and ("\\u%04x"):format(char:byte()) or nil
  end)
  return '"' .. string:gsub("\u{2028}", escaped):gsub("\u{2029}", escaped) .. '"'
end

--- Writes a value without blanks.
-- @param value what to write
-- @param options `drop_nulls`: leave out null members of objects; `number`: a function that rewrites a number's text
function gson.write(value, options)
  options = options or {}
  local kind = value.kind
  if kind == "string" then return gson.quote(value.text) end
  if kind == "number" then return options.number and options.number(value.text) or value.text end
  if kind == "boolean" then return tostring(value.value) end
  if kind == "null" then return "null" end
  local parts = {}
  if kind == "array" then
    for index, element in ipairs(value) do parts[index] = gson.write(element, options) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for _, key in ipairs(value.keys) do
    local member = value.values[key]
    if member ~= gson.null or not options.drop_nulls then
      parts[#parts + 1] = gson.quote(key) .. ":" .. gson.write(member, options)
    end
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

return gson
