-- The types for editors: they say what lua/ says, and a checker finds mistakes by them.
local manual = require "spec.support.manual"
local misspelt = require "spec.support.literal_options"
local scratch = require "spec.support.scratch"

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

local HERE = io.popen("pwd"):read "l"
local MODULES = package.cpath:gsub("[^;]+", function(path) return not path:find "^/" and HERE .. "/" .. path or nil end)

local function write(path, text)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
end

describe("the types for editors #host", function()
  local directory

  before_each(function() directory = scratch.new() end)
  after_each(function() scratch.remove(directory) end)

  -- What packaging/manual/check.lua says of the tree, with a file of it changed.
  local function said_of(path, pattern, replacement)
    assert(os.execute(("mkdir -p %s/packaging && cp -r lua csrc %s"):format(directory, directory)))
    assert(os.execute(("cp -r packaging/manual packaging/types %s/packaging"):format(directory)))
    if path then
      local text, count = read(path):gsub(pattern, replacement)
      assert.equal(1, count)
      write(directory .. "/" .. path, text)
    end
    local command = "cd %s && LUA_PATH='lua/?.lua;lua/?/init.lua;./?.lua;;' LUA_CPATH='%s' "
      .. "lua5.4 packaging/manual/check.lua 2>&1"
    return io.popen(command:format(directory, MODULES)):read "a"
  end

  it("are those that the comments and the options give", function() assert.equal("", said_of()) end)

  it("are found stale, and what is public and not documented is found", function()
    assert.truthy(said_of("lua/thingsboard/options.lua", "default = 35,", "default = 36,")
      :find "packaging/types/ is stale")
    assert.truthy(said_of("lua/thingsboard/options.lua", "default = 35,", "default = 36,")
      :find "guide/options.md is stale")
    assert.truthy(said_of("lua/thingsboard/command/claim.lua", "how long it may", "how long it must")
      :find "packaging/manual/thingsboard.1 is stale")
    assert.truthy(said_of("lua/thingsboard/device.lua", "%-%-%- Publishes client", "-- Publishes client")
      :find("thingsboard.device:send_attributes is not documented", 1, true))
    assert.truthy(said_of("lua/thingsboard/device.lua", "device:claim%(given%)", "device:claim(given, more)")
      :find("dev:claim: the parameter more is not documented", 1, true))
    assert.truthy(said_of("lua/thingsboard/error.lua", "%-%- %- `file`:.-\n", "")
      :find("the kind file is not listed", 1, true))
    assert.truthy(said_of("csrc/core/clock.c", "/%*%*%* The wall", "/* The wall")
      :find("csrc/core/clock.c: now has no comment", 1, true))
    assert.truthy(said_of("csrc/http/client.c", "@function client:start", "@function client:begin")
      :find("the comment of start names client:begin", 1, true))
    assert.truthy(said_of("lua/thingsboard/options.lua", 'doc = "seconds for a whole call"', 'doc = ""')
      :find("option timeout of connection is not documented", 1, true))
    assert.truthy(said_of("packaging/manual/samples.lua", '%["dev:claim"%]', '["dev:claimed"]')
      :find("dev:claim has no example", 1, true))
  end)

  local function pieces()
    local files = {}
    for number, piece in ipairs(manual.pieces()) do files["piece" .. number] = piece.code end
    for name, code in pairs(require "packaging.manual.samples") do files[name] = code end
    for path in io.popen("ls examples/*.lua examples/service/scripts/*.lua"):lines() do
      files[path:match "([%w_]+)%.lua$"] = read(path)
    end
    return files
  end

  it("have the options of README's and the guide's pieces, the samples and the examples", function()
    for name, code in pairs(pieces()) do assert.same({}, misspelt(code), name) end
  end)

  it("lack misspelt options, which are found", function()
    for code, found in pairs {
      ['tb.device { url = "http://h", token = "x", time_out = 5 }'] = "device: time_out",
      ['local d = tb.device({ url = "http://h", ["token"] = "x", cafile = "a" })'] = "device: cafile",
      ['dev:outbox { path = "x", max_size = 1 }'] = "outbox: max_size",
      ['dev:outbox { -- path\n path = "a, b = {", when_ful = "refuse" }'] = "outbox: when_ful",
      ["dev:attribute_updates({ 'interval' }, { periods = 20 })"] = "attribute_updates: periods",
      ["for request in dev:rpc_requests { interval = 5 } do request:reply(1) end"] = "rpc_requests: interval",
      ["dev:serve_rpc({ stop = function() return { a = 1 } end }, { poll = 5 })"] = "serve_rpc: poll",
      ["dev:request_attributes { client = { 'a' }, server = { 'b' } }"] = "request_attributes: server",
      ['dev:claim { secret_key = "x", duration = 60000 }'] = "claim: duration",
      ['tb.provision { url = "http://h", key = "k", secret = "s", name = "n" }'] = "provision: name",
      ['dev:firmware { title = "a", version = "1", file = "x" }'] = "firmware: file",
      ['dev:updates { kind = "firmware", apply = function(p) local q = { r = p } return q end, url = 1 }'] =
        "updates: url",
      ['dev:updates { kind = "firmware", url_options = { timeout = 5, cafile = "x" } }'] = "url_options: cafile",
      ["outbox:drain { timeout = 30 }"] = "drain: timeout",
    } do
      assert.same({ found }, misspelt(code), code)
    end
  end)

  if not os.execute "command -v emmylua_check >/dev/null 2>&1" then
    it("are held against samples", function() pending "emmylua_check is not installed: make types-test" end)
    return
  end

  -- What may be nil is left to the author of a sample, and other libraries are not there.
  local SETTINGS = [[{
    "runtime": { "version": "Lua5.4" }, "workspace": { "library": [%q] }, "strict": { "arrayIndex": false },
    "diagnostics": { "disable": ["need-check-nil", "unresolved-require", "unnecessary-assert"] }
  }]]

  -- What the checker says of files, by their names.
  local function checked(files)
    write(directory .. "/.emmyrc.json", SETTINGS:format(HERE .. "/packaging/types/library"))
    for name, code in pairs(files) do write(directory .. "/" .. name .. ".lua", code) end
    local said, current = {}, nil
    for line in io.popen("emmylua_check --severity warn " .. directory .. " 2>&1"):lines() do
      current = line:match "^%-%-%- (.+)%.lua " or current
      if current and line:find "^%a+: " then said[current] = (said[current] or "") .. line .. "\n" end
    end
    return said
  end

  local PRELUDE = 'local tb = require "thingsboard"\n'
    .. 'local dev = tb.device { url = "https://thingsboard.example", token = "A1_TEST_TOKEN" }\n'

  it("fit the pieces of README and the guide, and the examples", function()
    local files = {}
    for name, code in pairs(pieces()) do
      -- The checker takes what is in `arg` for nil.
      code = code:gsub("arg%[%d%]", '"a"'):gsub("table%.unpack%(arg%)", '"a", "b", "c", "d", "e"')
      if not code:find 'require "thingsboard"\n' then code = PRELUDE .. code end
      if not code:find "cqueues" then files[name:gsub("%W", "_")] = code end
    end
    assert.same({}, checked(files))
  end)

  -- What a newcomer gets wrong, and a word of what the checker says to it.
  local wrong = {
    { "a name of a method", "dev:send_telemetri { a = 1 }", "send_telemetri" },
    { "an option's type", 'dev:outbox { path = 5 }', "assign%-type%-mismatch" },
    { "a word of an option", 'dev:outbox { path = "x", when_full = "drop" }', "assign%-type%-mismatch" },
    { "a missing option", 'tb.device { token = "x" }', "missing%-fields" },
    { "a text for seconds", 'tb.sleep("1")', "param%-type%-mismatch" },
    { "a field of an error", "local _, err = dev:claim() print(err and err.text)", "text" },
    { "a field of a request", "for request in dev:rpc_requests() do print(request.name) end", "name" },
    { "a method of an outbox", 'local box = dev:outbox { path = "x" } if box then box:flush() end', "flush" },
    { "a function for a value", "dev:serve_rpc(print)", "param%-type%-mismatch" },
    { "a kind of update", 'dev:updates { kind = "hardware", current = { title = "a", version = "1" }, '
      .. 'directory = "/tmp", apply = print }', "assign%-type%-mismatch" },
    { "a field of a package", 'dev:updates { kind = "firmware", current = { title = "a", version = "1" }, '
      .. 'directory = "/tmp", apply = function(package) print(package.file) return true end }', "file" },
  }
  it("find what is wrong", function()
    local files = {}
    for number, case in ipairs(wrong) do files["wrong" .. number] = PRELUDE .. case[2] end
    local said = checked(files)
    for number, case in ipairs(wrong) do
      assert.truthy((said["wrong" .. number] or ""):find(case[3]), case[1] .. ": " .. case[2])
    end
  end)
end)
