--- Something outside that is missing: the log says so once, and says when it is over.
-- @module thingsboard.service.outage
local outage = {}
outage.__index = outage

--- @tparam table log
function outage.new(log)
  return setmetatable({ log = log, told = nil }, outage) -- `told`: what the log says at present
end

--- It goes on. The log has a line when that is new, or another text than before.
-- @tparam string text a format, followed by its values
function outage:goes_on(text, ...)
  text = text:format(...)
  if text == self.told then return end
  self.told = text
  self.log:warning("%s", text)
end

--- It is over, or there was none. The log has a line if there was.
-- @tparam string text a format, followed by its values
function outage:is_over(text, ...)
  if not self.told then return end
  self.told = nil
  self.log:info(text, ...)
end

return outage
