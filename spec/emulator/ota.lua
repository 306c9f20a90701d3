--- Firmware and software packages: assignment, what the device is told of it, and the download.
local answers = require "spec.emulator.answers"
local attributes = require "spec.emulator.attributes"
local checksums = require "spec.emulator.checksums"
local media = require "spec.emulator.media"
local telemetry = require "spec.emulator.telemetry"

local ota = {}

local prefixes = { firmware = "fw_", software = "sw_" }

-- What an unassignment removes.
local TOLD = { "title", "version", "ts", "state", "size", "checksum", "checksum_algorithm", "url", "tag" }

local function text_value(key, value) return { key = key, type = "STRING", value = value } end

local function told_attributes(prefix, package)
  local values, removed = {}, {}
  local function tell(name, value, kind)
    if value == nil or value == "" then
      removed[#removed + 1] = prefix .. name
    else
      values[#values + 1] = { key = prefix .. name, type = kind or "STRING", value = tostring(value) }
    end
  end
  tell("title", package.title)
  tell("version", package.version)
  tell("tag", package.tag)
  tell("url", package.url)
  tell("size", package.size, "LONG")
  tell("checksum_algorithm", package.checksum and package.checksum_algorithm)
  tell("checksum", package.checksum)
  return values, removed
end

local function pattern(size)
  local bytes = {}
  for code = 0, 255 do bytes[#bytes + 1] = string.char(code) end
  return table.concat(bytes):rep(size // 256 + 1):sub(1, size)
end

local function new_package(fields)
  local package = {
    title = fields.title or "title", version = fields.version or "1.0", url = fields.url,
    file_name = fields.file_name or "package.bin", content_type = fields.content_type or "application/octet-stream",
    checksum_algorithm = fields.checksum_algorithm or "SHA256", checksum = fields.checksum,
    size = fields.size and math.tointeger(fields.size),
  }
  package.tag = fields.tag or package.title .. " " .. package.version
  if not package.url then
    package.data = fields.data or pattern(fields.size or 0)
    package.size = #package.data
    package.checksum = package.checksum or checksums.of(package.checksum_algorithm, package.data)
  elseif not fields.tag then
    package.tag = nil
  end
  return package
end

--- Assigns a package to a device. It hears of it in two messages: first the keys that are gone, then the values.
-- @param kind "firmware" or "software"
function ota.assign(world, device, kind, fields)
  local prefix, package = prefixes[kind], new_package(fields)
  device.packages[kind] = package
  local now = world:now()
  local target = "target_" .. prefix
  local values = { text_value(target .. "title", package.title), text_value(target .. "version", package.version) }
  if package.tag then values[#values + 1] = text_value(target .. "tag", package.tag) end
  values[#values + 1] = { key = target .. "ts", type = "LONG", value = tostring(now) }
  values[#values + 1] = text_value(prefix .. "state", "QUEUED")
  telemetry.write(device, now, values)
  world:later(world.settings.ota_delay, function()
    if device.packages[kind] ~= package then return end
    telemetry.write(device, world:now(), { text_value(prefix .. "state", "INITIATED") })
    local told, removed = told_attributes(prefix, package)
    attributes.delete_shared(device, removed)
    attributes.set_shared(device, told)
  end)
end

--- Takes the package away again.
function ota.unassign(device, kind)
  local names = {}
  for index, name in ipairs(TOLD) do names[index] = prefixes[kind] .. name end
  device.packages[kind] = nil
  attributes.delete_shared(device, names)
end

local function int32(value)
  value = value & 0xFFFFFFFF
  return value > 0x7FFFFFFF and value - 0x100000000 or value
end

-- The part of the package that is asked for; nil where the server fails. Its arithmetic is that of 32 bits.
local function part_of(package, size, chunk)
  if size < 1 then
    if package.evicted then return nil end
    return package.data
  end
  if package.evicted or #package.data == 0 then return "" end
  local start = int32(size * chunk)
  local length = math.min(int32(#package.data - start), size)
  if start >= #package.data or length <= 0 then return "" end
  if start < 0 then return nil end
  return package.data:sub(start + 1, start + length)
end

-- One range of a Range header within so many bytes.
local function range_of(spec, length)
  local first, last = spec:match("^%s*(%d+)%-(%d*)%s*$")
  if first then
    first, last = tonumber(first), tonumber(last) or length - 1
    if last < first and last ~= length - 1 then return nil end
    last = math.min(last, length - 1)
    return first < length and first, last
  end
  local suffix = tonumber(spec:match("^%s*%-(%d+)%s*$"))
  if not suffix or suffix == 0 or length == 0 then return nil end
  return math.max(0, length - suffix), length - 1
end

local function apply_range(answer, header)
  local length = #answer.body
  local specs = header:match("^bytes=(.*)$") or ""
  local first, last = range_of(specs, length)
  if specs:find(",", 1, true) then
    local total, valid = 0, true
    for spec in specs:gmatch("[^,]+") do
      local from, to = range_of(spec, length)
      valid = valid and from
      total = total + (from and to - from + 1 or 0)
    end
    -- The server never finishes an answer of several parts.
    if valid and total < length then return { never = true } end
    first = nil
  end
  if first then
    answer.status = 206
    answer.headers[#answer.headers + 1] = { "Content-Range", ("bytes %d-%d/%d"):format(first, last, length) }
    answer.body = answer.body:sub(first + 1, last + 1)
  else
    answer.status = 416
    answer.headers[#answer.headers + 1] = { "Content-Range", "bytes */" .. length }
  end
  return answer
end

--- Answers a download.
-- @param asked `title`, `version`, `size`, `chunk`
function ota.download(exchange, device, kind, asked)
  local package = device.packages[kind]
  if not package or package.url then return answers.empty(404, "no package is assigned") end
  if package.title ~= asked.title or package.version ~= asked.version then
    return answers.empty(400, "another title or version is assigned")
  end
  local part = part_of(package, asked.size, asked.chunk)
  if not part then return answers.empty(500, "the server cannot read this part of the package") end
  local answer = {
    status = 200, body = part, headers = {
      { "Content-Disposition", "attachment;filename=" .. package.file_name },
      { "x-filename", package.file_name },
      { "Content-Type", media.parse(package.content_type) and package.content_type or "application/octet-stream" },
      { "Accept-Ranges", "bytes" },
    },
  }
  local range = exchange.headers.range
  return range and apply_range(answer, range) or answer
end

return ota
