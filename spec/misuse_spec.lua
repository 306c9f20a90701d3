-- Every function and method of the core, with every kind of wrong value in every place: an error or an answer each, and
-- never a crash; what is closed says so.
local core = require "thingsboard.core"

describe("the core, misused,", function()
  local reactor, client

  local function new_client()
    return core.client(reactor, { prefix = "http://127.0.0.1:9/x", max_response = 1000, connect_timeout = 100 })
  end

  before_each(function()
    reactor = core.reactor()
    client = new_client()
  end)

  after_each(function()
    client:close()
    reactor:close()
  end)

  local odd = {
    nil, false, true, 0, 1, -1, 1.5, math.maxinteger, math.mininteger, 1 / 0, -1 / 0, 0 / 0, 2.0 ^ 53, "", "x", "12",
    "\0", ("x"):rep(10000), {}, { 1, 2 }, { prefix = 1 }, print, coroutine.create(print), io.stdout,
    setmetatable({}, { __index = function() error "index" end, __len = function() return -5 end }),
    setmetatable({}, { __name = "thingsboard.client" }),
  }
  local ODD = 26

  -- Files of odd names would be written: those that are names go elsewhere.
  local function harmless(name, value)
    return not (name == "file" and type(value) == "string" and value ~= "" and not value:find "\0")
  end

  local function makers()
    return {
      reactor = function() return core.reactor() end,
      client = new_client,
      body = function() return core.body() end,
      checksum = function() return core.checksum "SHA256" end,
      file = function() return core.file(os.tmpname()) end,
      exchange = function() return client:start("GET", "/", nil, 50) end,
    }
  end

  local function methods_of(object)
    local names = {}
    for _, name in ipairs { "pollfd", "events", "timeout", "wake_at", "step", "finished", "close", "start", "redact",
      "raw", "telemetry", "values", "value", "text", "take", "clear", "update", "hex", "write", "commit", "done",
      "result", "received" } do
      local ok, method = pcall(function() return object[name] end)
      if ok and method then names[name] = method end
    end
    return names
  end

  it("answers or raises, whatever it is given", function()
    local calls = 0
    for name, maker in pairs(core) do
      if type(maker) == "function" and name ~= "array" then
        for first = 1, ODD do
          for second = 1, ODD do
            if harmless(name, odd[first]) then
              local ok, message = pcall(maker, odd[first], odd[second])
              assert.truthy(ok or type(message) == "string", name)
              if ok and type(message) == "userdata" then message:close() end
              calls = calls + 1
            end
          end
        end
      end
    end
    assert.is_true(calls > 3000)
  end)

  it("does so in every method, open or closed", function()
    local calls = 0
    for kind, make in pairs(makers()) do
      for _, closed in ipairs { false, true } do
        for name, method in pairs(methods_of(make())) do
          for first = 1, ODD do
            local object = make()
            if closed then object:close() end
            local arguments = { odd[first], odd[(first * 7) % ODD + 1], odd[(first * 11) % ODD + 1],
              odd[(first * 5) % ODD + 1] }
            if name == "step" then arguments = { first < 6 and 0 or odd[first] } end
            if not (name == "step" and not closed and (arguments[1] == nil or type(arguments[1]) == "number"
              and arguments[1] > 0)) then
              local ok, message = pcall(method, object, table.unpack(arguments, 1, 4))
              assert.truthy(ok or type(message) == "string", kind .. ":" .. name)
              assert.is_string(tostring(object))
              calls = calls + 1
            end
            object:close()
          end
        end
      end
    end
    assert.is_true(calls > 1000)
  end)

  it("knows its own objects from others'", function()
    for kind, make in pairs(makers()) do
      local object = make()
      for other, make_other in pairs(makers()) do
        if other ~= kind then
          local stranger = make_other()
          for name, method in pairs(methods_of(object)) do
            local ok, message = pcall(method, stranger)
            assert.is_false(ok, kind .. "." .. name .. " took a " .. other)
            assert.truthy(message:find("expected", 1, true) or message:find "closed", message)
          end
          stranger:close()
        end
      end
      for name, method in pairs(methods_of(object)) do
        for at = 1, ODD do assert.is_false((pcall(method, odd[at])), kind .. "." .. name) end
      end
      object:close()
    end
  end)

  it("does not let metamethods be reached", function()
    for _, make in pairs(makers()) do
      local object = make()
      assert.equal("thingsboard", getmetatable(object))
      object:close()
    end
  end)

  it("takes no file or checksum that is closed", function()
    local file, checksum = core.file(os.tmpname()), core.checksum "MD5"
    file:close()
    checksum:close()
    assert.error_matches(function() client:start("GET", "/", nil, 100, file) end, "closed")
    assert.error_matches(function() client:start("GET", "/", nil, 100, nil, checksum) end, "closed")
  end)
end)
