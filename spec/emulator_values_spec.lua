--- What becomes of a telemetry body, line by line as measured on a server: typed, told to the rule engine, typed again.
local emulator = require "spec.support.emulator"
local wire = require "spec.support.wire"

local SHOWN = 80 -- so much of a long text is in the vectors

-- Keys that the conversion lets pass and the storage behind it does not.
local refused_by_storage = { ['{"":1}'] = "a blank key" }

local function read_vectors()
  local file = assert(io.open("spec/data/telemetry-bodies.txt"))
  local text = "\n" .. file:read("a"):gsub("\n#[^\n]*", ""):gsub("^#[^\n]*", "") .. "\nIN "
  file:close()
  local vectors = {}
  local at = text:find("\nIN ", 1, true)
  while true do
    local following = text:find("\nIN ", at + 1, true)
    if not following then return vectors end
    local body, result = text:sub(at + 4, following - 1):match("^([^\n]*)\n   (.*)$")
    vectors[#vectors + 1] = { body = body, result = result:match("^(.-)%s*$") }
    at = following
  end
end

local special = { ["<SPACE>"] = " ", ["<BOM>"] = '\u{FEFF}{"a":1}' }

local function shorten(text)
  return #text > 300 and ("%s...(%d chars)"):format(text:sub(1, SHOWN), #text) or text
end

local function list_of(values)
  local parts = {}
  for index, entry in ipairs(values) do parts[index] = ("%s:%s=%s"):format(entry.key, entry.type, entry.value) end
  return shorten("[" .. table.concat(parts, ", ") .. "]")
end

local function told_of(messages)
  local parts = {}
  for index, message in ipairs(messages) do
    parts[index] = ("[ts=%s pass1=%s ruleMsg=%s stored=%s]"):format(message.server_ts and "SERVER" or message.ts,
      list_of(message.transport), shorten(message.json), list_of(message.stored))
  end
  return "OK " .. table.concat(parts, " ")
end

-- The vectors tell the exception behind an answer, too.
local function told_of_failure(answer)
  return "500 body=" .. (answer.body == "" and "<empty>" or "'" .. answer.body .. "'")
end

local function stored(e, token)
  local values = {}
  for index, entry in ipairs(e:telemetry(token)) do values[index] = entry end
  return list_of(values)
end

describe("telemetry is converted as measured:", function()
  local e

  setup(function() e = emulator.start({ async_timeout = 200, async_check = 50 }) end)
  teardown(function() e:stop() end)

  for number, vector in ipairs(read_vectors()) do
    it(number .. " " .. vector.body, function()
      local token = e:create_device()
      local sent = os.time() * 1000
      local body = special[vector.body] or vector.body
      local answer = wire.request(e.port, "POST", "/api/v1/" .. token .. "/telemetry", body)
      local messages = e:messages(token)
      if answer.status == 503 then
        assert.equal("OK NO-MESSAGES (hang)", vector.result)
        assert.same({}, messages)
      elseif answer.status == 500 then
        assert.equal(vector.result:gsub("   %([^\n]*%)$", ""), (told_of_failure(answer)))
        assert.same({}, messages)
      else
        assert.equal(200, answer.status)
        assert.equal(vector.result, told_of(messages))
        local all = {}
        for _, message in ipairs(messages) do
          assert.is_true(not message.server_ts or message.ts >= sent)
          for _, entry in ipairs(message.stored) do all[#all + 1] = entry end
        end
        assert.equal(refused_by_storage[vector.body] and "[]" or list_of(all), stored(e, token))
      end
    end)
  end

  it("a whole number just beyond 64 bits becomes a text of its digits", function()
    local token = e:create_device()
    local body = '{"a":-9223372036854775808,"b":-9223372036854775809,"c":"-9223372036854775809",'
      .. '"d":9223372036854775808}'
    assert.equal(200, wire.request(e.port, "POST", "/api/v1/" .. token .. "/telemetry", body).status)
    assert.equal("[a:LONG=-9223372036854775808, b:STRING=-9223372036854775809, c:STRING=-9223372036854775809, "
      .. "d:STRING=9223372036854775808]", stored(e, token))
  end)
end)
