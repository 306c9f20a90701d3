--- Bytes to text and back: charsets, percent coding, the shapes Java gives to broken input.
local text = {}

local REPLACEMENT = "\u{FFFD}"

-- One replacement for each longest broken sequence, as Java's decoder does.
local function mend_utf8(bytes)
  local out, at = {}, 1
  while at <= #bytes do
    local _, bad = utf8.len(bytes, at)
    if not bad then
      out[#out + 1] = bytes:sub(at)
      break
    end
    out[#out + 1] = bytes:sub(at, bad - 1)
    out[#out + 1] = REPLACEMENT
    local lead = bytes:byte(bad)
    local low, high, wanted = 0x80, 0xBF, 0
    if lead >= 0xC2 and lead <= 0xDF then
      wanted = 1
    elseif lead >= 0xE0 and lead <= 0xEF then
      wanted = 2
      if lead == 0xE0 then low = 0xA0 elseif lead == 0xED then high = 0x9F end
    elseif lead >= 0xF0 and lead <= 0xF4 then
      wanted = 3
      if lead == 0xF0 then low = 0x90 elseif lead == 0xF4 then high = 0x8F end
    end
    at = bad + 1
    for _ = 1, wanted do
      local byte = bytes:byte(at)
      if not byte or byte < low or byte > high then break end
      at, low, high = at + 1, 0x80, 0xBF
    end
  end
  return table.concat(out)
end

local function from_utf8(bytes)
  return utf8.len(bytes) and bytes or mend_utf8(bytes)
end

local function from_latin1(bytes)
  return (bytes:gsub("[\x80-\xFF]", function(char) return utf8.char(char:byte()) end))
end

local function from_ascii(bytes)
  return (bytes:gsub("[\x80-\xFF]", REPLACEMENT))
end

local function from_utf16(order)
  return function(bytes)
    local endian, at = order or ">", 1
    if not order then
      if bytes:sub(1, 2) == "\xFF\xFE" then endian, at = "<", 3
      elseif bytes:sub(1, 2) == "\xFE\xFF" then at = 3 end
    end
    local out = {}
    while at + 1 <= #bytes do
      local unit = string.unpack(endian .. "I2", bytes, at)
      at = at + 2
      if unit >= 0xD800 and unit <= 0xDFFF then
        local second = unit < 0xDC00 and at + 1 <= #bytes and string.unpack(endian .. "I2", bytes, at) or 0
        if second >= 0xDC00 and second <= 0xDFFF then
          unit, at = 0x10000 + ((unit & 0x3FF) << 10) + (second & 0x3FF), at + 2
        else
          unit = 0xFFFD
        end
      end
      out[#out + 1] = utf8.char(unit)
    end
    if at <= #bytes then out[#out + 1] = REPLACEMENT end
    return table.concat(out)
  end
end

local decoders = {
  ["utf-8"] = from_utf8, utf8 = from_utf8,
  ["iso-8859-1"] = from_latin1, latin1 = from_latin1, ["iso8859-1"] = from_latin1, iso8859_1 = from_latin1,
  ["windows-1252"] = from_latin1, cp1252 = from_latin1,
  ["us-ascii"] = from_ascii, ascii = from_ascii,
  ["utf-16"] = from_utf16(), ["utf-16be"] = from_utf16(">"), ["utf-16le"] = from_utf16("<"),
}

--- Whether a charset of this name is known.
function text.knows_charset(charset)
  return decoders[charset:lower()] ~= nil
end

--- Decodes bytes of a charset into valid UTF-8.
function text.decode(bytes, charset)
  return (decoders[(charset or "utf-8"):lower()] or from_utf8)(bytes)
end

--- UTF-8 as Latin-1, with a question mark for what Latin-1 has not.
function text.to_latin1(string)
  if not string:find("[\x80-\xFF]") then return string end
  local out = {}
  for _, code in utf8.codes(string) do
    out[#out + 1] = code < 256 and string.char(code) or "?"
  end
  return table.concat(out)
end

--- Number of UTF-16 units, which is what Java counts.
function text.utf16_length(string)
  local units = 0
  for _, code in utf8.codes(string) do units = units + (code > 0xFFFF and 2 or 1) end
  return units
end

--- Undoes percent coding; nil when a percent sign is not followed by two hex digits.
function text.percent_decode(string)
  if not string:find("%", 1, true) then return string end
  if string:gsub("%%%x%x", ""):find("%", 1, true) then return nil end
  return (string:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

--- What Java's URLEncoder makes of a text.
function text.form_encode(string)
  return (string:gsub("[^%w%.%-%*_]", function(char)
    return char == " " and "+" or ("%%%02X"):format(char:byte())
  end))
end

return text
