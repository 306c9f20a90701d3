--- Values out of a fuzzer's bytes. Where the bytes end come zeros and empty strings, so that all bytes mean something.
local bytes = {}
bytes.__index = bytes

function bytes.new(text)
  return setmetatable({ text = text, at = 1 }, bytes)
end

--- What is left.
function bytes:rest()
  return self.text:sub(self.at)
end

--- Whether nothing is left.
function bytes:ended()
  return self.at > #self.text
end

function bytes:byte()
  local value = self.text:byte(self.at) or 0
  self.at = self.at + 1
  return value
end

local function packed(self, format)
  local size = string.packsize(format)
  local piece = self.text:sub(self.at, self.at + size - 1)
  self.at = self.at + size
  return (string.unpack(format, piece .. ("\0"):rep(size - #piece)))
end

--- Any integer.
function bytes:integer() return packed(self, "<i8") end

--- Any float.
function bytes:float() return packed(self, "<d") end

--- A string of up to 255 bytes.
function bytes:string()
  local length = self:byte()
  local value = self.text:sub(self.at, self.at + length - 1)
  self.at = self.at + length
  return value
end

--- One of a list.
function bytes:choice(list)
  return list[self:byte() % #list + 1]
end

return bytes
