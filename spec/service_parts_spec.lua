-- Parts of the service, each without a process of its own: what it logs of the server, how it tries again, what it
-- makes of an executable that installs updates, what surrounds a script, and how shared attributes reach it.
local attributes = require "thingsboard.service.attributes"
local child = require "thingsboard.loop.child"
local command = require "spec.support.command"
local core = require "thingsboard.core"
local emulator = require "spec.support.emulator"
local environment = require "thingsboard.service.environment"
local errors = require "thingsboard.error"
local guard = require "thingsboard.service.guard"
local handler = require "thingsboard.service.handler"
local link = require "thingsboard.service.link"
local log = require "thingsboard.service.log"
local loop = require "thingsboard.loop"
local outage = require "thingsboard.service.outage"
local service_outbox = require "thingsboard.service.outbox"
local patience = require "thingsboard.service.patience"
local scratch = require "spec.support.scratch"
local state = require "thingsboard.service.state"
local tb = require "thingsboard"
local updates = require "thingsboard.service.updates"

local monotonic <const>, stderr <const> = core.monotonic, io.stderr

describe("the service's log", function()
  local written, now

  before_each(function()
    written, now = {}, 1000
    io.stderr = { write = function(_, ...) written[#written + 1] = table.concat { ... } end } -- luacheck: ignore 122
    core.monotonic = function() return now end
  end)

  after_each(function()
    io.stderr, core.monotonic = stderr, monotonic -- luacheck: ignore 122
  end)

  -- What was written since the last call, without what all lines begin with.
  local function lines()
    local text = ("\n" .. table.concat(written)):gsub("\nthingsboard: ", "\n"):sub(2)
    written = {}
    return text
  end

  it("leaves out what is less important than its level, and keeps the first line of the last error", function()
    local LINES <const> = { "error: 1%\n  two\n", "warning: w 2\n", "info: %d\n", "debug: d\n" }
    for level, most in pairs { error = 1, warning = 2, info = 3, debug = 4, [""] = 3 } do
      local to = log.new(level ~= "" and level or nil)
      assert.is_nil(to.last_error)
      to:error("%d%%\n%s", 1, "two")
      to:warning("w %d", 2)
      to:info "%d" -- no format without values
      to:debug "d"
      assert.equal("1%", to.last_error)
      assert.equal(table.concat(LINES, "", 1, most), lines())
    end
  end)

  it("tells of a server that does not answer after half a minute, of one that cannot be trusted at once", function()
    local hear, looks = nil, 0
    link.watch({ listen = function(_, listener) hear = listener end }, log.new(), function() looks = looks + 1 end)
    local function err(kind, retryable) return errors.new(kind, "no " .. kind, { retryable = retryable }) end
    for n, heard in ipairs {
      { 0, 200, "" }, { 10, nil, "", err("network", true) }, { 39.9, nil, "", err("timeout", true) },
      { 40, nil, "warning: the server has not answered for 30 s: no network\n", err("network", true) },
      { 90, nil, "", err("network", true) }, { 101, 200, "info: the server answers again, after 91 s\n" },
      { 102, 500, "" }, { 110, nil, "", err("tls", true) }, { 139, nil, "", err("closed", false) },
      { 139, nil, "warning: the server cannot be used: no tls\n", err("tls", false) },
      { 150, nil, "", err("network", true) }, { 160, 408, "info: the server answers again, after 50 s\n" },
      { 170, 401, "warning: the server does not know the token (status 401); it is tried again, ever less often\n" },
      { 171, 401, "" }, { 174, 200, "" }, { 206, 503, "" }, { 206.1, 503, "info: the server knows the token\n" },
      { 210, 401, "warning: the server does not know the token (status 401); it is tried again, ever less often\n" },
      { 213, 200, "" }, { 213.1, 200, "info: the server knows the token\n" }, { 220, nil, "", err("closed", false) },
      { 251, nil, "", err("network", true) },
      { 282, nil, "warning: the server has not answered for 31 s: no network\n", err("network", true) },
    } do
      now = 1000 + heard[1]
      hear(heard[2], heard[4])
      assert.equal(heard[3], lines(), n)
      assert.equal(n, looks)
    end
  end)

  it("tells of an outbox when it has waited for the time for half a minute, and for room at once", function()
    local clock, known, to = tb.clock, nil, log.new()
    finally(function() tb.clock = clock end)
    function tb.clock() return known end
    local box = setmetatable({
      open = { file = {}, lost = {} }, service = { began = 1000 }, dropped_at = 0,
      disk = outage.new(to), clock = outage.new(to), full = outage.new(to),
    }, service_outbox)
    for _, seen in ipairs {
      { 0, "" }, { 30, "" }, { 30.5, "warning: the time is not known; records wait for it\n" }, { 40, "" },
      { 50, "info: the time is known\n", true },
      { 51, "warning: outbox: it is full; the oldest records are dropped\n", true, 1 }, { 52, "", true, 2 },
      { 112, "", true, 2 },
      { 112.5, "info: outbox: it has room again; 2 records were dropped since its file was made\n", true, 2 },
    } do
      now, known, box.open.lost.full = 1000 + seen[1], seen[3], seen[4]
      box:look()
      assert.equal(seen[2], lines(), seen[1])
    end
  end)

  it("tells once why something fails, and that it works again, but nothing of a token that is unknown", function()
    local failures = {
      { nil, errors.new("network", "no way, 5%") }, { nil, errors.new("network", "no way, 5%") },
      { nil, errors.new("http", "who?", { status = 401 }) }, { nil }, { works = true }, { raise = "broken" },
      { "done" },
    }
    local at, ceilings = 0, {}
    local server = { wait = function(_, pause)
      pause:next()
      ceilings[#ceilings + 1] = pause.ceiling
    end }
    assert.equal("done", patience.keep(server, log.new(), "it", function(works)
      at = at + 1
      now = now + (at == 2 and 60 or at == 4 and 60.1 or 0) -- how long it has worked
      local how = failures[at]
      if how.works then works() end
      if how.raise then error(how.raise, 0) end
      return how[1], how[2]
    end))
    assert.equal("warning: it: no way, 5%; it is tried again\nwarning: it: it ended; it is tried again\n"
      .. "info: it: works again\nwarning: it: it ended; it is tried again\nwarning: it: broken; it is tried again\n"
      .. "info: it: works again\n", lines())
    assert.same({ 2, 4, 8, 2, 4, 8 }, ceilings) -- what has worked for more than a minute is tried again soon
    assert.same({ 1, 300 }, { patience.first_pause, patience.longest_pause })
  end)
end)

describe("an executable that installs updates", function()
  local PACKAGE <const> = { title = "fw", version = "2", path = "/the package" }
  local directory

  before_each(function() directory = scratch.new() end)
  after_each(function() scratch.remove(directory) end)

  -- One that runs these words of the shell when it is called with each of its own.
  local function installer(words)
    local text = { "#!/bin/sh\ncd " .. directory .. "\necho \"$*\" >>called\ncase $1 in\n" }
    for word, what in pairs(words) do text[#text + 1] = ("%s) %s ;;\n"):format(word, what) end
    text[#text + 1] = "esac\n"
    return handler.new(command.write(directory .. "/installer", table.concat(text), "755"))
  end

  local function called()
    local file <close> = assert(io.open(directory .. "/called"))
    return file:read "a"
  end

  it("says why it refuses a package, or asks for another try", function()
    local SAYS <const> = "echo fw; echo 2"
    for words, said in pairs {
      ["exit 3"] = { nil, "%s ended with code 3" },
      ["echo first; echo ' the last '; echo; exit 1"] = { nil, " the last " },
      ["kill -9 $$"] = { nil, "%s was ended by signal 9" }, ["echo busy; exit 21"] = { "again", "busy" },
      ["exit 21"] = { "again", "%s ended with code 21" },
    } do
      for _, what in ipairs { "verify", "apply" } do
        local ok, reason = installer({ version = SAYS, [what] = words }):apply(PACKAGE)
        assert.same({ said[1], said[2]:format(what) }, { ok, reason })
      end
    end
    assert.is_true(installer({ version = SAYS }):apply(PACKAGE))
    assert.truthy(called():find "verify /the package\napply /the package\nversion\n$")
    local ok, reason = handler.new(directory .. "/none"):apply(PACKAGE)
    assert.is_nil(ok)
    assert.truthy(reason:find "No such file")
  end)

  it("must tell a title and a version", function()
    local TWO <const> = "it must print a title and a version, a line each"
    assert.same({ title = "a b", version = "1" }, installer({ version = "echo a b; printf 1" }):current())
    for words, said in pairs {
      ["echo fw"] = TWO, ["echo; echo 1"] = TWO, ["echo fw; echo 1; echo more"] = TWO,
      ["echo broken; exit 4"] = "broken", ["echo fw; echo 1 >&2; exit 4"] = "fw", ["exit 4"] = "it ended with code 4",
    } do
      local found, err = installer({ version = words }):current()
      assert.is_nil(found)
      assert.same({ "file", true }, { err.kind, err.retryable })
      assert.equal(directory .. "/installer version: " .. said, err.message)
    end
  end)

  it("has five minutes until the new version runs, for the machine may be restarting", function()
    local slept, on = {}, loop.default()
    finally(function() on.sleep = nil end)
    local runs = { "fw\n1", "other\n2", "fw\n1", "fw\n2" } -- as the time goes by
    function on.sleep(_, seconds)
      slept[#slept + 1] = seconds
      command.write(directory .. "/version", runs[#slept + 1] or runs[1])
    end
    command.write(directory .. "/version", runs[1])
    local one = installer { version = "cat version" }
    assert.is_true(one:apply(PACKAGE))
    assert.same({ 10, 10, 10 }, slept)
    for version, said in pairs { ["fw\n1"] = "version 1 runs, not 2", [""] = "it is not known which version runs" } do
      slept, runs = {}, { version }
      command.write(directory .. "/version", version)
      assert.same({ nil, said }, { one:apply(PACKAGE) })
      assert.equal(30, #slept)
    end
  end)

  it("has half a minute to tell what runs, ten minutes to look at a package, and an hour to install it", function()
    local run, given = child.run, {}
    finally(function() child.run = run end)
    function child.run(on, what)
      given[#given + 1] = { what[2], what.timeout, what.detached }
      what.timeout = 0.01
      return run(on, what)
    end
    local one = installer { version = "sleep 100", verify = "sleep 100" }
    assert.equal(directory .. "/installer version: it took too long", select(2, one:current()).message)
    assert.same({ nil, "verify took too long" }, { one:apply(PACKAGE) })
    function child.run(_, what)
      given[#given + 1] = { what[2], what.timeout, what.detached }
      return { code = 0, output = "fw\n2" }
    end
    assert.is_true(one:apply(PACKAGE))
    assert.same({ { "version", 30 }, { "verify", 600, true }, { "verify", 600, true }, { "apply", 3600, true },
      { "version", 30 } }, given)
  end)
end)

describe("the updates of the configuration", function()
  -- What the last one is called, the error that ended it, and what was given to `device:updates`.
  local function start(wanted, outbox)
    local name, err, given
    local device = { updates = function(_, options)
      given = options
      return nil, "ended"
    end }
    updates.start({ outbox = outbox, keep = function(_, what, body)
      name, err = what, select(2, body(device, function() end))
    end }, wanted)
    return name, err, given
  end

  it("have no option that is the service's, and must say what runs where no executable does", function()
    for name, value in pairs { outbox = {}, progress = print, attribute_updates = print } do
      assert.error_matches(function()
        start { kind = "firmware", directory = "/d", apply = "/bin/true", [name] = value }
      end, "updates: unknown option '" .. name .. "'")
    end
    assert.error_matches(function() start { kind = "firmware", directory = "/d" } end,
      "updates: option 'current' is missing")
    assert.error_matches(function() start { kind = "firmware", directory = "/d", apply = print } end,
      "updates: option 'apply' must be a non%-empty string")
  end)

  it("ask the executable what runs, unless the configuration says so", function()
    local current, outbox = { title = "fw", version = "1" }, {}
    local what, err, given = start({ kind = "firmware", directory = "/d", apply = "/none", current = current }, outbox)
    assert.same({ "updates of firmware", "ended" }, { what, err })
    assert.same({ "firmware", "/d", current }, { given.kind, given.directory, given.current })
    assert.equal(outbox, given.outbox)
    what, err, given = start { { kind = "software", directory = "/d", apply = "/none" } }
    assert.same({ "updates of software", "file" }, { what, err.kind })
    assert.is_nil(given)
  end)
end)

describe("what surrounds a script", function()
  local directory, own

  before_each(function()
    directory = scratch.new()
    own = environment.new({}, guard.new(loop.default()), print)
    own.package.path = directory .. "/?.lua"
  end)

  after_each(function() scratch.remove(directory) end)

  it("is its own, and found by require; the library's modules are shared", function()
    for _, name in ipairs { "string", "table", "math", "io", "os", "debug", "coroutine", "utf8", "package" } do
      assert.equal(own[name], own.require(name), name)
      assert.not_equal(_G[name], own[name], name)
    end
    assert.equal(own, own.require "_G")
    for _, name in ipairs { "print", "arg" } do assert.is_false(pcall(own.require, name), name) end
    for _, name in ipairs { "config", "searchpath", "loadlib" } do
      assert.equal(package[name], own.package[name], name)
    end
    local path = own.package.path
    own.package.path = package.path
    assert.equal(errors, own.require "thingsboard.error")
    own.package.path = path
  end)

  it("takes a module for what it returns, or what it puts into package.loaded, or for true", function()
    for name, module in pairs {
      quiet = { "", true }, itself = { "package.loaded[...] = 5", 5 }, returns = { "return select('#', ...)", 2 },
    } do
      local path = command.write(directory .. "/" .. name .. ".lua", module[1])
      assert.same({ module[2], path }, { own.require(name) })
      assert.same({ module[2] }, { own.require(name) })
    end
  end)

  it("looks for modules in C along the script's own path, which no other script gets", function()
    local before = package.cpath
    own.package.cpath = "/nowhere/?.so"
    assert.matches("no file '/nowhere/none/such.so'", select(2, pcall(own.require, "none.such")))
    assert.equal(before, package.cpath)
  end)

  it("names a text that is loaded as Lua does", function()
    for message, chunk in pairs {
      ["^%[string \"error 'x'\"%]:1: x$"] = own.load "error 'x'", ["^name:1: x$"] = own.load("error 'x'", "=name"),
      ["^%?:1: x$"] = own.load(coroutine.wrap(function() coroutine.yield "error 'x'" end), "=?"),
    } do assert.matches(message, select(2, pcall(chunk))) end
  end)

  it("finalizes many objects of one metatable", function()
    local count = 0
    local meta = { __gc = function() count = count + 1 end }
    for _ = 1, 1000 do own.setmetatable({}, meta) end
    collectgarbage()
    assert.equal(1000, count)
  end)
end)

describe("shared attributes for scripts", function()
  local e, token, device, shared

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)

  before_each(function()
    token = e:create_device {}
    device = tb.device { url = e.url, token = token }
    shared = attributes.new { loop = loop.default(), keep = function(_, _, body)
      tb.spawn(body, device, function() end)
    end }
  end)

  after_each(function() device:close() end)

  it("are waited for, two seconds from when the first script asks", function()
    local on, deadlines = loop.default(), {}
    finally(function() on.wait = nil end)
    function on.wait(_, _, deadline) deadlines[#deadlines + 1] = deadline end
    function shared.service.keep() end -- there is no server
    for _ = 1, 2 do assert.is_nil(shared:view().interval) end
    assert.same({ shared.started + 2, shared.started + 2 }, deadlines)
  end)

  it("come by an iterator as the device's own: all, changes, and what was deleted, until it is closed", function()
    e:set_shared(token, '{"a":1,"b":2,"c":3}')
    local changes, none = shared:updates { "a", "b" }, shared:updates { "z" }
    local seen, without = {}, {}
    local task = tb.spawn(function()
      for values, deleted in changes, nil, nil, changes do
        seen[#seen + 1] = { values, deleted }
        if #seen == 1 then e:delete_shared(token, { "b" }) end
        if #seen == 2 then e:set_shared(token, '{"b":4}') end
        if #seen == 3 then break end
      end
      assert.is_nil(changes())
      none.close()
    end)
    local other = tb.spawn(function()
      for values, deleted in none do without[#without + 1] = { values, deleted } end
    end)
    task:join()
    other:join()
    assert.same({ { { a = 1, b = 2 }, {} }, { {}, { "b" } }, { { b = 4 }, {} } }, seen)
    assert.same({ { {}, {} } }, without)
  end)
end)

describe("the service's state", function()
  it("is sent every five minutes, unless the configuration says otherwise", function()
    local sent
    local scripts = { each = function() return next, {} end }
    local service = { began = core.monotonic(), log = {}, loop = {}, scripts = scripts }
    function service.loop.sleep(_, seconds) coroutine.yield(seconds) end
    function service.put(_, values) sent = values end
    for every, seconds in pairs { [7] = 7, [false] = 300 } do
      service.values = { report = { every = every or nil } }
      function service.loop.spawn_background(_, body)
        local run = coroutine.wrap(body)
        assert.same({ seconds, seconds }, { run(), run() })
      end
      state.start(service)
    end
    assert.same({ uptime = 0, script_restarts = 0 }, sent)
  end)
end)
