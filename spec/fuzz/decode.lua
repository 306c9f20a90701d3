-- The reader of JSON against a second one: both take a text or both refuse it, and what they read is the same.
local json = require "thingsboard.json.decode"
local reference = require "spec.fuzz.reference"

return function(text)
  local value, reason = json.decode(text)
  local wanted, why = reference.decode(text)
  if value == nil then
    assert(type(reason) == "string")
    if wanted ~= nil then error("refused, and it is JSON: " .. reason) end
  elseif wanted == nil then
    error("taken, and it is no JSON: " .. why)
  elseif not reference.same(wanted, value) then
    error("read as something else")
  end
end
