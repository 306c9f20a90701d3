-- Every function and method of the core and of the outbox's store, with every kind of wrong value in every place: an
-- error or an answer each, and never a crash; what is closed says so.
local core = require "thingsboard.core"
local scratch = require "spec.support.scratch"
local spool = require "thingsboard.spool"

describe("the core, misused,", function()
  local reactor, client, directory

  setup(function() directory = scratch.new() end)
  teardown(function() scratch.remove(directory) end)

  local function new_client()
    return core.client(reactor, { prefix = "http://127.0.0.1:9/x", connect_timeout = 100 }, 1000)
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
    nil, false, true, 0, 1, -1, 1.5, math.maxinteger, math.mininteger, 1 / 0, -1 / 0, 0 / 0, 2.0 ^ 53, 1 << 31,
    (1 << 32) + 1, "", "x", "12", "\0", ("x"):rep(10000), {}, { 1, 2 }, { prefix = 1 }, print,
    coroutine.create(print), io.stdout,
    setmetatable({}, { __index = function() error "index" end, __len = function() return -5 end }),
    setmetatable({}, { __name = "thingsboard.http.client" }),
  }
  local ODD = 28

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
      file = function() return core.file(directory .. "/file") end,
      exchange = function() return client:start("GET", "/", nil, 50) end,
      spool = function()
        local made = spool.spool "/nowhere/outbox"
        made:put(made:device "x", { a = 1 })
        return made
      end,
    }
  end

  -- All of them, metamethods too, as they stand in the metatable: a new one is tried without being named here.
  local function methods_of(object)
    local methods = {}
    local metatable = debug.getmetatable(object)
    for name, method in pairs(metatable.__index) do methods[name] = method end
    for name, method in pairs(metatable) do
      if type(method) == "function" then methods[name] = method end
    end
    return methods
  end

  -- Arguments with which a method works, each of which is then replaced; where none are given here it gets nil.
  local base = {
    start = { "GET", "/", nil, 50 }, write = { "x" }, update = { "x" }, value = { 1 },
    values = { { a = 1 } }, redact = { "x" }, step = { 0 },
    device = { "x" }, put = { 1, { a = 1 } }, discard_pending = { 1, 0, 0 }, batch = { 1, 0, 9, 99, 9, 9 },
    remove = { 1, 0, 0 }, counts = { 1 }, oldest = { 1, false }, newest = { 1 }, query = { "SELECT 1" }, date = { 0 },
    set_clock_policy = { "wall", 0 }, set_limit = { 0 }, remove_oldest = { 1 }, follow = { 0, 0 },
    follow_uptimes = { 0, 0 }, wait = { 0 },
  }

  -- Whether the call might wait: a step without an end, or one that is far.
  local function waits(name, seconds)
    return name == "step" and (seconds == nil or type(seconds) == "number" and seconds > 0 or tonumber(seconds))
  end

  it("answers or raises, whatever it is given", function()
    local calls = 0
    for _, module in ipairs { core, spool } do
      for name, maker in pairs(module) do
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
    end
    assert.is_true(calls > 3000)
  end)

  -- What a place takes of the odd values; all others are to be refused by the place's number.
  local function nothing() return false end

  local function prose(value) return type(value) == "number" or type(value) == "string" end -- read up to a zero byte

  local function words(value) return prose(value) and not tostring(value):find "\0" end

  local function integer(least, most)
    return function(value)
      local number = math.tointeger(tonumber(value))
      return number ~= nil and number >= least and number <= most
    end
  end

  local function absent_or(takes)
    return function(value) return value == nil or takes(value) end
  end

  -- Calls one with each odd value in each place, beside good ones in all others.
  local function refuses(name, call, good, takes)
    assert(call(table.unpack(good, 1, #takes))):close()
    for place, takes_it in ipairs(takes) do
      for at = 1, ODD do
        local arguments = table.move(good, 1, #takes, 1, {})
        arguments[place] = odd[at]
        local ok, result = pcall(call, table.unpack(arguments, 1, #takes))
        local where = ("%s, place %d, value %d: %s"):format(name, place, at, tostring(result))
        assert.equal(takes_it(odd[at]), ok, where)
        if ok then
          if result then result:close() end
        else
          assert.truthy(result:find(("bad argument #%d to "):format(place), 1, true) or result:find "index$", where)
        end
      end
    end
  end

  it("names the argument of a client that is wrong, the others being right", function()
    refuses("client", core.client, { reactor, { prefix = "http://127.0.0.1:9/x" }, 1000, "agent" },
      { nothing, nothing, integer(1, math.maxinteger), absent_or(prose) })
  end)

  it("makes a client or raises, whatever one of its options is", function()
    for _, name in ipairs {
      "connect_timeout", "verify", "ca_file", "ca_path", "pinned_key", "client_cert", "client_key", "proxy",
      "interface", 1,
    } do
      for at = 1, ODD do
        local options = { prefix = "https://127.0.0.1:9/x", connect_timeout = 100 }
        options[name] = odd[at]
        local ok, made = pcall(core.client, reactor, options, 1000)
        if ok then
          assert.is_string(made:redact "x")
          made:close()
        else
          assert.truthy(made:find(("option '%s'"):format(name), 1, true), made)
        end
      end
    end
  end)

  it("names the argument of a request that is wrong, the others being right", function()
    local file <close> = core.file(directory .. "/file")
    local checksum <close> = core.checksum "MD5"
    local good = { file = file, checksum = checksum, limit = 10, range = "0-9" }
    local timeout, missing = integer(1, (1 << 31) - 1), absent_or(nothing)
    local function body(value) return value == nil or type(value) == "string" end
    local function download(value) return value == nil or type(value) == "table" end
    refuses("POST", client.start, { client, "POST", "/", "x", 50, good },
      { nothing, nothing, words, body, timeout, download })
    refuses("GET", client.start, { client, "GET", "/", nil, 50, good },
      { nothing, nothing, words, missing, timeout, download })

    local function size(value) return value == nil or math.type(value) == "integer" and value >= 0 end
    for name, takes_it in pairs { file = missing, checksum = missing, limit = size, range = absent_or(prose) } do
      for at = 1, ODD do
        local fields = { file = file, checksum = checksum, limit = 10, range = "0-9" }
        fields[name] = odd[at]
        local ok, result = pcall(client.start, client, "GET", "/", nil, 50, fields)
        local where = ("%s, value %d: %s"):format(name, at, tostring(result))
        assert.equal(takes_it(odd[at]), ok, where)
        if ok then result:close() else assert.truthy(result:find(name .. " is not", 1, true), where) end
      end
    end
  end)

  it("names the argument of a file that is wrong, the other being right", function()
    local function elsewhere(value) -- what is a name would be written where the specs run
      return words(value) and value ~= "" and directory .. "/" .. value or value
    end
    local function file(path, temporary) return core.file(elsewhere(path), elsewhere(temporary)) end
    local function path(value) return words(value) and value ~= "" and #tostring(value) < 4000 end
    refuses("file", file, { "file", "file.new" }, { path, absent_or(words) })
  end)

  it("does so in every method, in every place, open or closed", function()
    local calls = 0
    for kind, make in pairs(makers()) do
      for name in pairs(methods_of(make())) do
        local given = base[name] or {}
        for place = 1, name == "start" and 8 or math.max(2, #given) do
          for at = 1, ODD do
            for _, closed in ipairs { false, true } do
              local object <close> = make()
              local method = methods_of(object)[name]
              if closed then object:close() end
              local arguments = table.move(given, 1, 8, 1, {})
              arguments[place] = odd[at]
              if closed or not waits(name, arguments[1]) then
                local ok, message = pcall(method, object, table.unpack(arguments, 1, 8))
                assert.truthy(ok or type(message) == "string", kind .. ":" .. name)
                assert.is_string(tostring(object))
                calls = calls + 1
              end
            end
          end
        end
      end
    end
    assert.is_true(calls > 3000, "calls: " .. calls)
  end)

  it("refuses every method of what is closed, but to close it and to print it", function()
    local may = { close = true, __close = true, __gc = true, __tostring = true, redact = true, -- needs no reactor
      done = true, received = true, sent = true, result = true, -- it is over then
      ["exchange:date"] = true, ["exchange:range"] = true, ["exchange:lost_connections"] = true,
      challenged = true, encoded = true, is_attachment = true,
      set_clock_policy = true, offset = true, follow = true, follow_uptimes = true, ahead = true, -- of a clock
      busy = true }
    for kind, make in pairs(makers()) do
      local object = make()
      local open <const> = tostring(object)
      assert.matches("^thingsboard." .. kind .. " %(.+%)$", open)
      object:close()
      object:close()
      assert.not_equal(open, tostring(object))
      assert.matches(kind == "exchange" and "(ended)" or "closed)", tostring(object), 1, true)
      for name, method in pairs(methods_of(object)) do
        local ok, message = pcall(method, object, table.unpack(base[name] or {}, 1, 7))
        if may[name] or may[kind .. ":" .. name] then
          assert.is_true(ok or name == "result", kind .. ":" .. name)
        else
          assert.is_false(ok, kind .. ":" .. name)
          assert.truthy(message:find "closed", kind .. ":" .. name .. ": " .. message)
        end
      end
    end
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
            assert.matches(("thingsboard.%s expected, got thingsboard.%s"):format(kind, other), message, 1, true)
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

  it("takes no body that is closed, and no level that no stack has", function()
    local body = core.body()
    for _, level in ipairs { 0, -1, 100, math.maxinteger } do
      assert.error_matches(function() body:value(1, "what", level) end, "not a level of the stack")
    end
    body:close()
    assert.error_matches(function() client:start("POST", "/", body, 100) end, "the body was closed")
  end)

  it("takes no file or checksum that is closed", function()
    local file, checksum = core.file(directory .. "/file"), core.checksum "MD5"
    file:close()
    checksum:close()
    assert.error_matches(function() client:start("GET", "/", nil, 100, { file = file }) end, "closed")
    assert.error_matches(function() client:start("GET", "/", nil, 100, { checksum = checksum }) end, "closed")
  end)

  describe("with objects in flight", function()
    local socket = require "socket"
    local listener, port

    before_each(function()
      listener = assert(socket.bind("127.0.0.1", 0))
      port = select(2, listener:getsockname())
    end)
    after_each(function() listener:close() end)

    local function new_client_here(on)
      return core.client(on, { prefix = "http://127.0.0.1:" .. port, connect_timeout = 1000 }, 1000)
    end

    -- Starts an exchange whose answer comes once `meanwhile` has run; what comes of it.
    local function exchange(on, meanwhile, download)
      local one = new_client_here(on):start("GET", "/", nil, 10000, download)
      on:step(0)
      local server = assert(listener:accept())
      meanwhile(one)
      server:send "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
      local deadline = core.monotonic() + 5
      while not one:done() and core.monotonic() < deadline do on:step(0.1) end
      server:close()
      return one:result()
    end

    it("ends an exchange whose file is closed meanwhile with an error", function()
      local folder = scratch.new()
      local file = core.file(folder .. "/x")
      local status, code, text = exchange(reactor, function() file:close() end, { file = file })
      assert.same({ nil, "FILE_FAILED" }, { status, code })
      assert.truthy(text:find "cannot write the file")
      assert(os.remove(folder)) -- nothing is in it
    end)

    it("ends an exchange whose checksum is closed meanwhile with an error", function()
      for _, algorithm in ipairs { "MD5", "SHA512", "CRC32", "MURMUR3_32", "MURMUR3_128" } do
        local folder = scratch.new()
        local file, checksum = core.file(folder .. "/x"), core.checksum(algorithm)
        local status, code = exchange(reactor, function() checksum:close() end,
        { file = file, checksum = checksum })
        assert.same({ nil, "OUT_OF_MEMORY" }, { status, code })
        file:close()
        assert(os.remove(folder))
      end
    end)

    it("serves clients of another reactor, whose files and checksums belong to nobody", function()
      local folder = scratch.new()
      local other <close> = core.reactor()
      local file, checksum = core.file(folder .. "/x"), core.checksum "CRC32"
      assert.equal(200, (exchange(other, function() end, { file = file, checksum = checksum })))
      assert.equal("86a61036", checksum:hex())
      assert.equal(200, (exchange(reactor, function() end, { file = file, checksum = checksum })))
      assert(file:commit())
      assert.equal("hellohello", io.open(folder .. "/x"):read "a")
      scratch.remove(folder)
    end)

    it("ends with its reactor, whatever is closed first, and whatever is used of it", function()
      for order = 1, 6 do
        local other = core.reactor()
        local its = new_client_here(other)
        local one = its:start("GET", "/", nil, 10000)
        other:step(0)
        local server = assert(listener:accept())
        local closing = { other, its, one }
        for n = 3, 1, -1 do -- the orders of three
          table.remove(closing, (order * n) % #closing + 1):close()
          pcall(its.start, its, "GET", "/", nil, 50)
          pcall(one.result, one)
          pcall(other.step, other, 0)
          assert.is_boolean(one:done())
        end
        assert.is_true(one:done())
        server:close()
      end
    end)
  end)
end)
