-- Cuts off what the loader does not load, as OpenWrt's sstrip does with every library and program: sstrip.lua FILE...
-- Files that are not ELF of 32 bits stay as they are.
for _, path in ipairs(arg) do
  local file <close> = assert(io.open(path, "rb"))
  local text = file:read "a"
  if text:sub(1, 5) == "\127ELF\1" then
    local order = text:byte(6) == 2 and ">" or "<"
    local headers = string.unpack(order .. "I4", text, 29)
    local size, count = string.unpack(order .. "I2I2", text, 43)
    local last = 0
    for n = 0, count - 1 do
      local _, offset, _, _, length = string.unpack(order .. "I4I4I4I4I4", text, headers + n * size + 1)
      last = math.max(last, offset + length)
    end
    -- The header speaks of no sections any more.
    text = text:sub(1, 32) .. ("\0"):rep(4) .. text:sub(37, 46) .. ("\0"):rep(6) .. text:sub(53, last)
    local cut <close> = assert(io.open(path, "wb"))
    assert(cut:write(text))
  end
end
