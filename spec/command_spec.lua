-- The command as processes, against the emulator: each subcommand, each exit code, where secrets may be, what is
-- written where.
local cjson = require "cjson"
local command = require "spec.support.command"
local configuration = require "thingsboard.command.config"
local emulator = require "spec.support.emulator"
local files = require "thingsboard.process"
local processes = require "spec.support.processes"
local scratch = require "spec.support.scratch"
local until_true = require "spec.support.until_true"
local tb = require "thingsboard"

local DONE, OTHER, USAGE, REFUSED, AGAIN, NOTHING, FILE = 0, 1, 2, 3, 4, 5, 6

describe("thingsboard", function()
  local e, directory, token_file

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)

  before_each(function()
    directory = scratch.new()
    token_file = command.write(directory .. "/token", e.token .. "\n")
    e:clear()
  end)

  after_each(function()
    scratch.remove(directory)
    e:clear_faults()
  end)

  local function run(...)
    return command.run({ "--url", e.url, "--token-file", token_file, ... })
  end

  local function run_with(input, ...)
    return command.run({ "--url", e.url, "--token-file", token_file, ... }, { input = input })
  end

  local function start(...)
    return command.start { "--url", e.url, "--token-file", token_file, ... }
  end

  -- Returns what `command.start` does, and the other end of its standard input.
  local function start_reading(...)
    local input = directory .. "/fifo"
    os.execute("rm -f " .. input .. "; mkfifo " .. input)
    local process, pid = command.start({ "--url", e.url, "--token-file", token_file, ... },
      { input = input, errors = "/dev/null" })
    return process, pid, assert(io.open(input, "w"))
  end

  local function last(key)
    local series = e:series(e.token)[key]
    return series and series[#series]
  end

  local function done(code, out, err)
    assert.same({ DONE, "" }, { code, err })
    return out
  end

  describe("by itself", function()
    it("shows help and version on the standard output, and helps with each subcommand", function()
      local code, out, err = command.run { "--help" }
      assert.same({ DONE, "" }, { code, err })
      for name in ("send attributes rpc claim provision firmware software update put outbox"):gmatch "%S+" do
        assert.matches("\n  " .. name .. (" "):rep(13 - #name) .. "%l", out)
        local own_code, own = command.run { name, "--help" }
        assert.equal(DONE, own_code, name)
        assert.truthy(own:find("usage: thingsboard " .. name, 1, true), name)
        assert.truthy(own:find("Exit codes: 0 done", 1, true), name)
        assert.matches("\n\n%a+ .+\n\nOptions:\n", own) -- what it does
        assert.truthy(own:find("\n  -h, --help                 show this\n", 1, true), name)
      end
      assert.matches("\n      %-%-directory DIRECTORY  where the package and the state are\n",
        select(2, command.run { "update", "--help" }))
      for _, words in ipairs { { "--version" }, { "send", "--version" } } do
        assert.same({ DONE, "thingsboard " .. tb.version .. "\n", "" }, { command.run(words) })
      end
    end)

    it("used wrongly says why on the standard error", function()
      local many = {}
      for n = 1, 2000 do many[n] = "key" .. n end
      for words, said in pairs {
        ["dance"] = "there is no subcommand 'dance'; thingsboard --help lists them",
        ["send"] = "send what? KEY=VALUE..., or -l for lines of the standard input",
        ["put"] = "put what? KEY=VALUE..., or -l for lines of the standard input",
        ["send a"] = "'a' is not KEY=VALUE", ["send =1"] = "'=1' is not KEY=VALUE",
        ["attributes set a"] = "'a' is not KEY=VALUE",
        ["send --colour red a=1"] = "unknown option '--colour'",
        ["send --ts soon a=1"] = "--ts must be milliseconds since 1970, not 'soon'",
        ["send --ts -1 a=1"] = "--ts must be milliseconds since 1970, not '-1'",
        ["put --ts 0 a=1"] = "--ts must be milliseconds since 1970, not '0'",
        ["send --ts 1700000000 a=1"] = "send_telemetry: ts = 1700000000 can only be seconds; it must be milliseconds, "
          .. "as of tb.now()",
        ["send -l a=1"] = "with -l the values come from the standard input alone",
        ["put -l a=1 --outbox x"] = "with -l the values come from the standard input alone",
        ["attributes"] = "attributes what? get, set, or watch",
        ["attributes dance"] = "attributes what? get, set, or watch",
        ["attributes set"] = "set what? KEY=VALUE...",
        ["attributes watch -C 0"] = "-C must be an integer above 0, not '0'",
        ["attributes watch --count 1.5"] = "--count must be an integer above 0, not '1.5'",
        ["attributes watch -W"] = "-W wants a value: SECONDS",
        ["attributes watch -W 0"] = "-W must be a number of seconds above 0, not '0'",
        ["attributes watch -W 1e6"] = "-W must be a number of seconds above 0, not '1e6'",
        ["attributes watch a,b"] = "attribute_updates: key 'a,b' holds a comma, and the server would take it for two "
          .. "keys",
        ["attributes get a"] = "get takes no arguments: name attributes by --client a,b and --shared c",
        ["attributes get --client " .. table.concat(many, ",")] = "request_attributes: too many keys for one request: "
          .. "ask in parts",
        ["rpc"] = "rpc what? call, or serve", ["rpc dance"] = "rpc what? call, or serve",
        ["rpc call"] = "rpc call METHOD [PARAMS]", ["rpc call a b c"] = "rpc call METHOD [PARAMS]",
        ["rpc call ''"] = "send_rpc: method must be a non-empty string, got string",
        ["rpc serve"] = "rpc serve DIRECTORY", ["rpc serve a b"] = "rpc serve DIRECTORY",
        ["put a=1"] = 'which outbox? Give --outbox FILE, or write outbox = { path = "..." } into the configuration',
        ["outbox"] = "outbox what? status, or send", ["outbox dance"] = "outbox what? status, or send",
        ["outbox send x"] = "outbox what? status, or send",
        ["update"] = "--handler is missing", ["update --handler x"] = "--directory is missing",
        ["update --handler x --directory y --kind z"] = "--kind must be firmware or software",
        ["update x"] = "update takes no arguments", ["firmware x"] = "firmware takes no arguments",
        ["software x"] = "software takes no arguments",
        ["provision"] = "--key is missing", ["provision --key k"] = "--store is missing",
        ["provision --key k --store s"] = "--secret-file is missing",
        ["provision now"] = "provision takes no arguments",
        ["claim now"] = "claim takes no arguments",
        ["claim --duration 0"] = "--duration must be a number of seconds above 0, not '0'",
        ["service a b"] = "service takes one configuration at most",
        ["send --help=yes a=1"] = "--help takes no value",
        ["--url nourl send a=1"] = "--url must be like https://host or http://host:port, without user, query or "
          .. "fragment, not 'nourl'",
        ["--url ftp://user:pass@host send a=1"] = "--url must be like https://host or http://host:port, without user, "
          .. "query or fragment, not 'ftp://***@host'",
        ["send a=1 a=2"] = "the key 'a' stands there twice", ["put a=1 a=1"] = "the key 'a' stands there twice",
        ["attributes set a=1 b=2 a=1"] = "the key 'a' stands there twice",
      } do
        local list = {}
        for word in words:gmatch "%S+" do list[#list + 1] = word == "''" and "" or word end
        assert.same({ USAGE, "", "thingsboard: " .. said .. "\n" }, { run(table.unpack(list)) }, words)
      end
      local code, out, err = command.run {}
      assert.same({ USAGE, "", 1 }, { code, out, (err:find("usage: thingsboard", 1, true)) })
    end)

    it("takes THINGSBOARD_URL for what is given, too", function()
      local code, _, err = command.run({ "--token-file", token_file, "send", "a=1" },
        { environment = { THINGSBOARD_URL = "https://user:pass@word@host" } })
      assert.same({ USAGE, true }, { code, err:find("THINGSBOARD_URL must be like", 1, true) ~= nil }, err)
      assert.truthy(err:find("not 'https://***@host'", 1, true), err)
      code, _, err = command.run({ "--url", e.url, "send", "a=1" },
        { environment = { THINGSBOARD_TOKEN = "two\nlines" } })
      assert.same({ USAGE, "thingsboard: THINGSBOARD_TOKEN: the token contains a control character (a line's end?), " ..
        "which no URL of the server can carry\n" }, { code, err })
    end)

    it("takes no file for a token that can be none", function()
      local path = command.write(directory .. "/lines", "two\nlines", "600")
      local code, _, err = command.run { "--url", e.url, "--token-file", path, "send", "a=1" }
      assert.same({ FILE, "thingsboard: device: " .. path .. ": the token contains a control character " ..
        "(a line's end?), which no URL of the server can carry\n" }, { code, err })
    end)

    it("fails when its standard output cannot be written, and says so", function()
      e:set_shared(e.token, '{"interval":5}')
      for _, words in ipairs { { "--help" }, { "--version" }, { "send", "--help" }, { "attributes", "get" },
        { "attributes", "watch", "-C", "1" } } do
        for to, reason in pairs { [">/dev/full"] = "No space left on device", [">&-"] = "Bad file descriptor" } do
          local code, _, err = command.run({ "--url", e.url, "--token-file", token_file, table.unpack(words) },
            { redirected = to })
          assert.same({ FILE, "thingsboard: the standard output: " .. reason .. "\n" }, { code, err })
        end
      end
    end)

    it("fails when its standard input cannot be read, and says so", function()
      for from, reason in pairs { ["<&-"] = "Bad file descriptor", ["<" .. directory] = "Is a directory" } do
        for _, words in ipairs { { "send", "-l" }, { "put", "-l", "--outbox", directory .. "/outbox" },
          { "rpc", "call", "m", "-" }, { "claim", "--secret-file", "-" } } do
          local code, _, err = command.run({ "--url", e.url, "--token-file", token_file, table.unpack(words) },
            { redirected = from })
          assert.same({ FILE, "thingsboard: the standard input: " .. reason .. "\n" }, { code, err }, words[1])
        end
      end
    end)

    it("works with its standard descriptors closed", function()
      local code = command.run({ "--url", e.url, "--token-file", token_file, "send", "closed=1" },
        { redirected = "<&- >&- 2>&-" })
      assert.equal(DONE, code)
      assert.equal("1", last("closed").value)
    end)

    it("ended by a signal before it is done says so by its exit code", function()
      e:fault { path = "/", how = "delay", seconds = 20 }
      for _, words in ipairs { { "attributes", "get" }, { "attributes", "set", "a=1" }, { "rpc", "call", "m" },
        { "send", "a=1" }, { "claim" }, { "firmware" }, { "attributes", "watch", "-C", "1" } } do
        for _, name in ipairs { "INT", "TERM" } do
          e:clear()
          local process, pid = start(table.unpack(words))
          until_true(function() return #e:requests() >= 1 end)
          command.signal(pid, name)
          assert.same({ nil, "exit", OTHER }, { process:close() }, words[1])
        end
      end
    end)

    it("is ended by a signal while it reads its standard input", function()
      local process, pid, to = start_reading("rpc", "call", "m", "-")
      until_true(function() return processes.command_line(pid):find("bin/thingsboard", 1, true) end)
      tb.sleep(0.3) -- until it catches signals: before, it ends by the signal, which is no less an end
      command.signal(pid, "INT")
      assert.is_nil((process:close()))
      to:close()
    end)

    it("wants a server and a device", function()
      local code, _, err = command.run { "send", "a=1" }
      assert.same({ USAGE, 'thingsboard: which server? Give --url, set THINGSBOARD_URL, or write url = "..." into the '
        .. "configuration\n" }, { code, err })
      local other_code, _, other_err = command.run { "--url", e.url, "send", "a=1" }
      assert.same({ USAGE, "thingsboard: which device? Give --token-file, set THINGSBOARD_TOKEN, or write token_file "
        .. "into the configuration\n" }, { other_code, other_err })
      other_code, _, other_err = command.run { "--url", e.url, "service" }
      assert.same({ USAGE, "thingsboard: which device? Write token_file, or provision with a store, into the "
        .. "configuration\n" }, { other_code, other_err })
    end)
  end)

  describe("secrets", function()
    it("are refused on the command line, with a word on why", function()
      for _, words in ipairs { { "--token", "SECRET" }, { "--token=SECRET" }, { "--access-token", "SECRET" } } do
        local code, out, err = command.run { "--url", e.url, "send", words[1], words[2] or "a=1", "a=1" }
        assert.same({ USAGE, "" }, { code, out })
        assert.equal("thingsboard: a token is not taken from the command line, where every user of the machine can "
          .. "read it (ps): put it into a file of your own (chmod 600) and give --token-file, or set "
          .. "THINGSBOARD_TOKEN\n", err)
        assert.falsy(err:find("SECRET", 1, true))
      end
    end)

    it("in a file that its group can write, or in a folder's place, are refused", function()
      for mode, code in pairs { ["620"] = FILE, ["660"] = FILE, ["640"] = DONE, ["604"] = FILE } do
        os.execute(("chmod %s %s"):format(mode, token_file))
        assert.equal(code, (run("send", "a=1")), mode)
      end
      local path = command.write(directory .. "/config.lua",
        ("return { url = %q, token = %q }"):format(e.url, e.token), "620")
      local code, _, err = command.run { "--config", path, "send", "a=1" }
      assert.same({ FILE, ("thingsboard: %s: holds a secret that its group can write: chmod g-w it\n"):format(path) },
        { code, err })
      code, _, err = command.run { "--url", e.url, "--token-file", directory, "send", "a=1" }
      assert.same({ FILE, "thingsboard: device: " .. directory .. " is a directory\n" }, { code, err })
    end)

    it("are inherited by no program that the command starts", function()
      local folder = directory .. "/methods"
      os.execute("mkdir -m 755 " .. folder)
      command.write(folder .. "/variables", "#!/bin/sh\nenv\n", "755")
      local process, pid = command.start({ "rpc", "serve", folder },
        { environment = { THINGSBOARD_URL = e.url, THINGSBOARD_TOKEN = e.token } })
      local handle = e:rpc(e.token, { method = "variables", params = "{}" })
      local body = e:rpc_result(handle, 15).body
      assert.truthy(body:find("THINGSBOARD_URL", 1, true), body)
      assert.falsy(body:find("TOKEN", 1, true) or body:find(e.token, 1, true))
      command.signal(pid, "TERM")
      process:close()
      local handler = command.write(directory .. "/handler", "#!/bin/sh\nenv >&2; exit 1\n", "755")
      local _, _, err = command.run({ "update", "--handler", handler, "--directory", directory },
        { environment = { THINGSBOARD_URL = e.url, THINGSBOARD_TOKEN = e.token } })
      assert.truthy(err:find("THINGSBOARD_URL", 1, true), err)
      assert.falsy(err:find("TOKEN", 1, true) or err:find(e.token, 1, true))
    end)

    it("in a file that others can read are refused", function()
      os.execute("chmod 644 " .. token_file)
      local code, out, err = run("send", "a=1")
      assert.same({ FILE, "" }, { code, out })
      local words <const> = "%s holds a secret that every user can read or write: chmod o= it, and use another secret\n"
      assert.equal(words:format("thingsboard: device: " .. token_file), err)
      local path = directory .. "/config.lua"
      for _, secret in ipairs { "provision = { secret = 's' }", ("token = %q"):format(e.token) } do
        command.write(path, ("return { url = %q, %s }"):format(e.url, secret), "644")
        local config_code, _, config_err = command.run { "--config", path, "send", "a=1" }
        assert.equal(FILE, config_code)
        assert.equal(words:format("thingsboard: " .. path .. ":"), config_err)
      end
      os.execute("chmod 600 " .. path)
      done(command.run { "--config", path, "send", "a=1" })
      command.write(path, ("return { url = %q, token_file = 'token', provision = {} }"):format(e.url), "644")
      command.write(token_file, e.token)
      done(command.run { "--config", path, "send", "a=1" })
    end)

    it("are in no list of processes", function()
      e:fault { path = "/telemetry", how = "delay", seconds = 1 }
      local process, pid = command.start({ "send", "a=1" },
        { environment = { THINGSBOARD_URL = e.url, THINGSBOARD_TOKEN = e.token } })
      until_true(function() return #e:requests() >= 1 end) -- before, env's words would show it
      local words = processes.command_line(pid)
      assert.truthy(words:find("send", 1, true))
      assert.falsy(words:find(e.token, 1, true))
      process:close()
    end)

    it("are in no error", function()
      command.write(token_file, "UNKNOWN_TOKEN")
      for _, words in ipairs { { "send", "a=1" }, { "attributes", "get" }, { "attributes", "watch" },
        { "rpc", "call", "m" }, { "rpc", "serve", directory }, { "firmware" }, { "claim" } } do
        local code, out, err = run(table.unpack(words))
        assert.same({ REFUSED, "" }, { code, out }, words[1])
        assert.truthy(err:find "^thingsboard: .-status 401", err)
        assert.falsy(err:find("UNKNOWN", 1, true))
      end
    end)
  end)

  describe("configuration", function()
    it("comes from options, the environment, a file, in this order", function()
      local path = command.write(directory .. "/config.lua",
        ("return { url = 'http://127.0.0.1:1', token_file = %q, timeout = 5 }"):format(token_file))
      local code = command.run { "--config", path, "send", "a=1" }
      assert.equal(AGAIN, code)
      done(command.run({ "--config", path, "send", "a=2" }, { environment = { THINGSBOARD_URL = e.url } }))
      done(command.run({ "--config", path, "--url", e.url, "send", "a=3" },
        { environment = { THINGSBOARD_URL = "http://127.0.0.1:1" } }))
      assert.equal(AGAIN, (command.run({ "--config", path, "send", "a=3" }, -- empty ones are none
        { environment = { THINGSBOARD_URL = "", THINGSBOARD_TOKEN = "" } })))
      os.execute(("mkdir -p %s/.config/thingsboard; mv %s %s/.config/thingsboard"):format(directory, path, directory))
      assert.equal(AGAIN, (command.run({ "send", "a=4" }, { environment = { HOME = directory } })))
      local xdg = directory .. "/.config"
      assert.equal(AGAIN, (command.run({ "send", "a=5" }, { environment = { XDG_CONFIG_HOME = xdg } })))
      assert.equal(AGAIN, (command.run({ "send", "a=6" },
        { environment = { XDG_CONFIG_HOME = xdg }, under = "env -u HOME timeout 60" })))
      assert.equal(USAGE, (command.run({ "send", "a=7" }, { under = "env -u HOME timeout 60" })))
    end)

    it("derives a token from a hardware id and the secret of the fleet, or says why it cannot", function()
      local secret = command.write(directory .. "/secret", "sixteen bytes...")
      local id = command.write(directory .. "/id", "00:11:22\nmore\n")
      local path = command.write(directory .. "/config.lua",
        ("return { url = %q, derive = { id_file = 'id', secret_file = 'secret' } }"):format(e.url))
      e:create_device { token = tb.derive_token("00:11:22", "sixteen bytes...") }
      done(command.run { "--config", path, "send", "derived=1" })
      local function fails(said)
        local code, _, err = command.run { "--config", path, "send", "a=1" }
        assert.same({ FILE, "thingsboard: " .. directory .. said .. "\n" }, { code, err })
      end
      command.write(secret, "short")
      fails "/secret: the secret must have at least 16 bytes"
      command.write(id, "\n")
      fails "/id: it holds no hardware id"
      os.remove(id)
      fails(("/id: %s/id: No such file or directory"):format(directory))
      command.write(path, "return { url = 'http://h', derive = { id_file = 'id' } }")
      fails "/config.lua: derive: option 'secret_file' is missing"
    end)

    it("has no function in reach, and comes to an end", function()
      for text, said in pairs {
        ["return { url = os.getenv 'HOME' }"] = "nil value (global 'os')",
        ["return { url = ('x'):rep(10) }"] = "index a string value",
        ["while true do end"] = "config.lua: it takes too long\n",
        ["local a = 'a' while true do a = a .. a end"] = "config.lua: it takes too much memory\n",
        ["return 1"] = "config.lua: it returns no table: begin it with 'return {'\n",
        [""] = "config.lua: it returns no table: begin it with 'return {'\n",
        ["return { colour = 1 }"] = "unknown option 'colour'",
        ["return {"] = "config.lua:1:", ["return { url = 1 }"] = "option 'url' must be",
        ["return { derive = { 1 } }"] = "config.lua: derive: a table expected, got number",
        ["return { updates = { {}, 2 } }"] = "config.lua: updates: a table expected, got number",
      } do
        local path = command.write(directory .. "/config.lua", text)
        local code, _, err = command.run { "--config", path, "send", "a=1" }
        assert.equal(FILE, code, text)
        assert.truthy(err:find(said, 1, true), text .. ": " .. err)
        assert.falsy(err:find("command/config.lua", 1, true), err) -- the fault is not there
      end
      local code, _, err = command.run { "--config", directory .. "/none", "send", "a=1" }
      assert.same({ FILE, true }, { code, err:find("/none: No such file", 1, true) ~= nil })
    end)

    it("names files relative to its own folder", function()
      os.execute("mkdir " .. directory .. "/scripts")
      command.write(directory .. "/scripts/a.lua", "print 'found'", "644")
      local path = command.write(directory .. "/config.lua", ([[return { url = %q, token_file = "token",
        outbox = { path = "outbox" }, scripts = "scripts", state = "state" }]]):format(e.url))
      done(command.run { "--config", path, "put", "relative=1" })
      done(command.run { "--config", path, "outbox", "send" })
      assert.equal("1", last("relative").value)
      assert.truthy(files.stat(directory .. "/outbox"))
      local process, pid = command.start({ "service", path }, { errors = directory .. "/log" })
      until_true(function()
        local file <close> = io.open(directory .. "/log")
        return file and file:read("a"):find("found", 1, true)
      end)
      command.signal(pid, "TERM")
      assert.is_true(process:close())
      assert.truthy(files.stat(directory .. "/state"))
    end)

    it("names each file that it may name relative to its own folder", function()
      local path = command.write(directory .. "/config.lua", [[return { token_file = "a", ca_file = "b", ca_path = "c",
        client_cert = "d", client_key = "e", scripts = "f", state = "g",
        derive = { id_file = "h", secret_file = "i" }, provision = { secret_file = "j", store = "k" },
        outbox = { path = "l" }, updates = { directory = "m", package_directory = "n" } }]])
      local function at(name) return directory .. "/" .. name end
      assert.same({ token_file = at "a", ca_file = at "b", ca_path = at "c", client_cert = at "d", client_key = at "e",
        scripts = at "f", state = at "g", derive = { id_file = at "h", secret_file = at "i" },
        provision = { secret_file = at "j", store = at "k" }, outbox = { path = at "l" },
        updates = { directory = at "m", package_directory = at "n" } }, configuration.read(path))
    end)

    it("names files relative to its own folder in each of several updates, and leaves programs of the PATH", function()
      local path = command.write(directory .. "/config.lua", [[return { updates = {
        { directory = "a", apply = "bin/handler" }, { directory = "/b", apply = "./handler" }, { apply = "handler" },
      } }]])
      local updates = assert(configuration.read(path)).updates
      assert.same({ { directory = directory .. "/a", apply = directory .. "/bin/handler" },
        { directory = "/b", apply = directory .. "/./handler" }, { apply = "handler" } }, updates)
      command.write(path, [[return { updates = { directory = "a", apply = "./handler" } }]])
      updates = assert(configuration.read(path)).updates
      assert.same({ directory = directory .. "/a", apply = directory .. "/./handler" }, updates)
    end)

    it("that makes no sense to the library is told", function()
      local path = command.write(directory .. "/config.lua", ("return { url = 'ftp://host', token_file = %q }"):format(
        token_file))
      local code, _, err = command.run { "--config", path, "send", "a=1" }
      assert.same({ OTHER, "thingsboard: device: option 'url' must be like" }, { code, err:sub(1, 46) })
    end)
  end)

  describe("send", function()
    it("takes JSON for JSON, all else for text, and does not touch the standard input", function()
      done(run("send", "temperature=21.5", "open=true", "name=hall 1", "n=73", "list=[1,2]", "eq=a=b"))
      assert.same({ "DOUBLE", "21.5" }, { last("temperature").type, last("temperature").value })
      assert.same({ "BOOL", "STRING", "LONG", "JSON", "a=b" },
        { last("open").type, last("name").type, last("n").type, last("list").type, last("eq").value })
    end)

    it("takes a time, and what is behind -- for values", function()
      done(run("send", "--ts", "1700000000123", "then=1"))
      assert.equal(1700000000123, last("then").ts)
      done(run("send", "first=1", "--", "--ts=2", "-l=3"))
      assert.same({ "1", "2", "3" }, { last("first").value, last("--ts").value, last("-l").value })
    end)

    it("exits by what the server says", function()
      local function status(number)
        e:fault { path = "/telemetry", how = "status", status = number, count = 1 }
        return (run("send", "a=1"))
      end
      assert.same({ REFUSED, REFUSED, AGAIN, AGAIN }, { status(400), status(413), status(500), status(503) })
      e:fault { path = "/telemetry", how = "close", count = 1 }
      assert.equal(AGAIN, (run("send", "a=1")))
    end)

    it("-l sends lines in batches, and says which it leaves out", function()
      local lines = {}
      for n = 1, 2500 do lines[n] = ('{"line":%d}'):format(n) end
      lines[7], lines[9] = "no JSON", '{"ts":1700000000999,"values":{"dated":1}}'
      lines[11] = ""
      local code, out, err = run_with(table.concat(lines, "\n"), "send", "-l")
      assert.same({ OTHER, "" }, { code, out })
      assert.equal("thingsboard: line 7 is no JSON object with values, and is left out\n", err)
      assert.equal("2500", last("line").value)
      assert.equal(1700000000999, last("dated").ts)
      assert.is_true(#e:requests() >= 3 and #e:requests() <= 10)
      e:clear()
      for n = 1, 30 do lines[n] = ('{"wide":"%d%s"}'):format(n, ("x"):rep(20000)) end
      done(run_with(table.concat(lines, "\n", 1, 30), "send", "-l"))
      assert.matches("^30x", last("wide").value)
      assert.is_true(#e:requests() >= 3 and #e:requests() <= 15)
    end)

    it("-l leaves out the lines that cannot be sent, with the reason, and sends the others", function()
      local code, out, err = run_with('{"odd":1}\n{"ts":1700000000,"values":{"odd":2}}\n'
        .. '{"ts":"now","values":{"odd":3}}\n{"ts":1700000000000,"odd":4}\n'
        .. '{"odd":"1234567890123456789.5"}\n{"odd":6}\n{}\n[{"odd":7}]\n', "send", "-l")
      assert.same({ OTHER, "" }, { code, out })
      assert.equal(6, select(2, err:gsub("\n", "\n")))
      assert.truthy(err:find("thingsboard: line 7 is no JSON object with values, and is left out\n", 1, true), err)
      assert.truthy(err:find("thingsboard: line 8 is no JSON object with values, and is left out\n", 1, true), err)
      assert.truthy(err:find("thingsboard: line 2 is left out: ts = 1700000000 can only be seconds", 1, true), err)
      assert.truthy(err:find("thingsboard: line 3 is left out: ts must be an integer", 1, true), err)
      assert.truthy(err:find("thingsboard: line 4 is left out: ts stands beside values", 1, true), err)
      assert.truthy(err:find("thingsboard: line 5 is left out: odd: a string of these digits", 1, true), err)
      assert.equal("6", last("odd").value)
    end)

    it("takes no time among the values, nor does put", function()
      for _, words in ipairs { { "send" }, { "put", "--outbox", directory .. "/box" } } do
        table.move({ "ts=1700000000000", "a=1" }, 1, 2, #words + 1, words)
        local code, _, err = run(table.unpack(words))
        assert.same({ USAGE, "thingsboard: ts=... would be stored as a value: give the time by --ts MILLISECONDS\n" },
          { code, err })
      end
      done(run("send", "--ts", "1700000000456", "ts=5", "then=2"))
      assert.equal(1700000000456, last("ts").ts)
    end)

    it("-l gives up a line without an end, and what is behind it", function()
      local code, out, err = run_with('{"before":1}\n' .. ("x"):rep(3 << 20) .. '\n{"behind":1}\n', "send", "-l")
      assert.same({ OTHER, "" }, { code, out })
      assert.truthy(err:find("a line of more than a megabyte: given up", 1, true), err)
      assert.is_nil(err:find("no JSON", 1, true), err)
      assert.equal("1", last("before").value)
      assert.is_nil(last "behind")
    end)

    it("-l sends a line as it comes", function()
      local process, _, to = start_reading("send", "-l")
      to:write '{"first_line":1}\n'
      to:flush()
      until_true(function() return last "first_line" end)
      to:write '{"last_line":1}' -- without an end
      to:close()
      assert.is_true(process:close())
      assert.truthy(last "last_line")
    end)

    it("-l tells how far it came", function()
      e:fault { path = "/telemetry", how = "status", status = 503 }
      local code, _, err = run_with('{"a":1}\n{"a":2}\n', "send", "-l")
      assert.equal(AGAIN, code)
      assert.truthy(err:find("given up at line 2", 1, true), err)
    end)
  end)

  describe("attributes", function()
    it("are set and got", function()
      done(run("attributes", "set", "model=GL-MT300N", "uptime=73"))
      e:set_shared(e.token, '{"interval":5,"limit":7.5}')
      assert.same({ client = { model = "GL-MT300N" }, shared = { interval = 5 } },
        cjson.decode(done(run("attributes", "get", "--client", "model", "--shared", "interval"))))
      local all = cjson.decode(done(run("attributes", "get")))
      assert.same({ 73, 7.5 }, { all.client.uptime, all.shared.limit })
    end)

    it("are watched: a line of JSON a change, so many of them", function()
      e:set_shared(e.token, '{"interval":5}')
      local process = start("attributes", "watch", "-C", "3", "interval")
      assert.equal('{"interval":5}', process:read "l")
      e:set_shared(e.token, '{"interval":6}')
      assert.equal('{"interval":6}', process:read "l")
      e:delete_shared(e.token, { "interval" })
      assert.equal('{"interval":null}', process:read "l")
      assert.same({ true, "exit", DONE }, { process:close() })
    end)

    it("that do not come in time are exit code 5", function()
      local code, out = run("attributes", "watch", "-W", "1", "never_set")
      assert.same({ NOTHING, "" }, { code, out })
      e:set_shared(e.token, '{"there":1}')
      code, out = run("attributes", "watch", "-W", "3", "-C", "2", "there")
      assert.same({ NOTHING, '{"there":1}\n' }, { code, out })
      code = run("attributes", "watch", "-W", "3", "there")
      assert.equal(DONE, code)
    end)

    it("are watched until a signal ends it, or nobody reads", function()
      e:set_shared(e.token, '{"there":1}')
      for _, name in ipairs { "INT", "TERM" } do
        local process, pid = start("attributes", "watch", "there")
        assert.equal('{"there":1}', process:read "l")
        command.signal(pid, name)
        assert.same({ true, "exit", DONE }, { process:close() })
      end
      local from, errors = tb.now(), directory .. "/errors"
      local pipeline = io.popen(("env LUA_PATH='%s' LUA_CPATH='%s' timeout 60 lua5.4 bin/thingsboard --url %s "
        .. "--token-file %s attributes watch there 2>%s | head -n 1"):format(package.path, package.cpath, e.url,
        token_file, errors))
      assert.equal('{"there":1}', pipeline:read "l")
      for value = 2, 4 do -- head ends soon after its line
        tb.sleep(0.5)
        e:set_shared(e.token, ('{"there":%d}'):format(value))
      end
      pipeline:close() -- once both have ended
      assert.is_true(tb.now() - from < 30000)
      assert.equal("thingsboard: the standard output is closed\n", io.open(errors):read "a")
    end)
  end)

  describe("rpc call", function()
    before_each(function() e:on_client_rpc "echo" end)

    it("prints the server's answer", function()
      local answer = cjson.decode(done(run("rpc", "call", "echo", '{"zone":"UTC"}')))
      assert.same({ echo = "echo", params = { zone = "UTC" } }, answer)
      assert.equal("plain", cjson.decode(done(run("rpc", "call", "echo", "plain"))).params)
      assert.equal("typed", cjson.decode(done(run_with("typed\n", "rpc", "call", "echo", "-"))).params)
    end)

    it("exits 5 when nothing came in time", function()
      e:on_client_rpc(nil)
      assert.equal(NOTHING, (run("rpc", "call", "-W", "1", "m")))
      local path = command.write(directory .. "/config.lua", "return { timeout = 1 }")
      assert.equal(AGAIN, (run("--config", path, "rpc", "call", "m"))) -- it was not told how long to wait
      e:fault { path = "/rpc", how = "status", status = 503, count = 1 }
      assert.equal(AGAIN, (run("rpc", "call", "m")))
    end)
  end)

  describe("rpc serve", function()
    local folder, process, pid, errors

    before_each(function()
      folder, errors = directory .. "/methods", directory .. "/errors"
      os.execute("mkdir -m 755 " .. folder)
    end)

    local function method(name, text, mode)
      command.write(folder .. "/" .. name, "#!/bin/sh\n" .. text .. "\n", mode or "755")
    end

    local function serve(...)
      process, pid = command.start({ "--url", e.url, "--token-file", token_file, "rpc", "serve", folder, ... },
        { errors = errors })
      until_true(function() return #e:requests() >= 2 end) -- its polls
    end

    after_each(function()
      if pid then command.signal(pid, "TERM") end
      if process then assert.same({ true, "exit", DONE }, { process:close() }) end
      process, pid = nil, nil
    end)

    local function ask(name, params)
      local result = e:rpc_result(e:rpc(e.token, { method = name, params = params or "{}" }), 15)
      return result.body and result.body ~= "" and cjson.decode(result.body) or result.status
    end

    it("answers by what an executable writes, JSON or text, and by its exit code", function()
      method("echo", "cat")
      method("text", "echo 'plain words'")
      method("silent", ":")
      method("fails", "echo 'no such pin'; exit 3")
      method("says_nothing", "exit 4")
      method("dies", "kill -9 $$")
      serve()
      assert.same({ pin = 4 }, ask("echo", '{"pin":4}'))
      assert.equal("plain words", ask "text")
      assert.equal(cjson.null, ask "silent")
      assert.equal(cjson.null, ask("echo", "null"))
      assert.same({ error = "no such pin" }, ask "fails")
      assert.same({ error = "it ended with code 4" }, ask "says_nothing")
      assert.same({ error = "it was ended by signal 9" }, ask "dies")
      command.write(folder .. "/no", "#!/none\n", "755")
      assert.same({ error = "it cannot be run" }, ask "no")
      assert.matches("thingsboard: method no: [^\n]*No such file or directory\n", io.open(errors):read "a")
    end)

    it("takes no method for a path, runs nothing but executables of its own that others cannot write to", function()
      method("data", "echo data", "644")
      method("open", "echo open", "757")
      method(".hidden", "echo hidden")
      method("-option", "echo option")
      os.execute(("mkdir %s/folder; ln -s /bin/ls %s/link; cp %s/data %s/../outside; chmod 755 %s/../outside"):format(
        folder, folder, folder, folder, folder))
      serve()
      local spoilt = directory .. "/spoilt"
      for _, name in ipairs { "data", "open", ".hidden", "-option", "folder", "link", "../outside", "/bin/ls", "none",
        "..", ".", "folder/../open", "$(touch " .. spoilt .. ")", "`touch " .. spoilt .. "`", "a;touch " .. spoilt,
        ("x"):rep(5000), "a\nb" } do
        local answer = ask(name)
        assert.truthy(type(answer) == "table" and tostring(answer.error):find("no such method", 1, true), name)
      end
      assert.is_nil(io.open(spoilt))
      assert.truthy(io.open(errors):read("a"):find(
        ("thingsboard: method open is not run: every user can write to %s/open\n"):format(folder), 1, true))
    end)

    it("gives hostile params to the standard input alone", function()
      method("show", 'echo "$# arguments"; cat')
      serve()
      assert.equal("0 arguments\n\"$(id) `id` ; id\"", ask("show", [["$(id) `id` ; id"]]))
    end)

    it("ends what a method leaves behind", function()
      method("leaves", "sleep 4731 & sleep 4731 >/dev/null 2>&1 & echo done")
      serve()
      assert.equal("done", ask "leaves")
      until_true(function() return not processes.find "sleep 4731" end)
      method("runs", ("touch %s/runs; sleep 4732 & sleep 4732"):format(directory))
      e:rpc(e.token, { method = "runs", params = "{}", oneway = true })
      until_true(function() return processes.find "sleep 4732" end)
      command.signal(pid, "TERM")
      assert.is_true(process:close())
      process, pid = nil, nil
      until_true(function() return not processes.find "sleep 4732" end)
    end)

    it("bounds time and output", function()
      method("slow", "sleep 30")
      method("much", "while :; do echo yes; done")
      serve("--timeout", "3", "--max-output", "2000")
      assert.same({ error = "it took longer than 3 s" }, ask "slow")
      assert.matches("thingsboard: method slow: it took longer than 3 s\n", io.open(errors):read "a")
      assert.same({ error = "it wrote more than 2000 bytes" }, ask "much")
    end)

    it("runs methods beside each other, but not too many", function()
      method("wait", ("echo begins >>%s/running; sleep 1; echo ends >>%s/running"):format(directory, directory))
      serve("--jobs", "2")
      for _ = 1, 4 do e:rpc(e.token, { method = "wait", params = "{}", oneway = true }) end
      -- How many ran at the same time, once all have ended.
      local function most()
        local running, most_running, ended = 0, 0, 0
        local file <close> = io.open(directory .. "/running")
        for line in file and file:lines() or function() end do
          running = running + (line == "begins" and 1 or -1)
          most_running, ended = math.max(most_running, running), ended + (line == "ends" and 1 or 0)
        end
        return ended == 4 and most_running
      end
      assert.equal(2, until_true(most))
    end)

    it("serves no folder that others can write to, or that is none", function()
      os.execute("chmod 777 " .. folder)
      local code, _, err = run("rpc", "serve", folder)
      assert.same({ FILE, ("thingsboard: rpc serve: %s: every user can write to it; chmod o-w it\n"):format(folder) },
        { code, err })
      assert.equal(FILE, (run("rpc", "serve", folder .. "/none")))
      assert.same({ FILE, "", ("thingsboard: rpc serve: %s: not a directory\n"):format(token_file) },
        { run("rpc", "serve", token_file) })
    end)
  end)

  it("claim lets a user claim, by a secret in a file", function()
    local token = e:create_device {}
    command.write(token_file, token)
    local secret = command.write(directory .. "/secret", "s3cret\n")
    done(run("claim", "--secret-file", secret, "--duration", "60.0001"))
    local claims = e:requests()
    assert.same({ secretKey = "s3cret", durationMs = 60001 }, cjson.decode(claims[#claims].body))
    assert.equal("SUCCESS", e:claim_by_user(token, "s3cret"))
    os.execute("chmod 644 " .. secret)
    assert.equal(FILE, (run("claim", "--secret-file", secret)))
    token = e:create_device {}
    command.write(token_file, token)
    done(run_with(" s4cret\n", "claim", "--secret-file", "-"))
    assert.equal("SUCCESS", e:claim_by_user(token, "s4cret"))
  end)

  it("claims and provisions by no empty secret", function()
    e:clear()
    for _, input in ipairs { "", "\n", "  \n" } do
      for _, words in ipairs { { "claim" }, { "provision", "--key", "k", "--store", directory .. "/store" } } do
        local list = table.move(words, 1, #words, 1, {})
        table.move({ "--secret-file", "-" }, 1, 2, #list + 1, list)
        local code, _, err = run_with(input, table.unpack(list))
        assert.same({ FILE, "thingsboard: " .. words[1] .. ": the standard input is empty\n" }, { code, err })
      end
    end
    local code, _, err = run("provision", "--key", "k", "--store", directory .. "/store", "--secret-file", directory)
    assert.same({ FILE, "thingsboard: provision: " .. directory .. " is a directory\n" }, { code, err })
    assert.equal(0, #e:requests())
  end)

  it("provision keeps credentials, which serve as a token file", function()
    e:provision_profile { key = "k", secret = "s", strategy = "ALLOW_CREATE" }
    local secret, store = command.write(directory .. "/secret", "s"), directory .. "/store"
    local words = { "--url", e.url, "provision", "--key", "k", "--secret-file", secret, "--name", "new", "--store",
      store }
    local told = done(command.run(words))
    assert.same({ credentials_type = "ACCESS_TOKEN", store = store }, cjson.decode(told))
    assert.equal("600\n", io.popen("stat -c %a " .. store):read "a")
    done(command.run(words)) -- which asks nothing
    words[#words + 1] = "--again"
    assert.equal(REFUSED, (command.run(words))) -- for the name is taken
    words[#words] = nil
    done(command.run { "--url", e.url, "--token-file", store, "send", "provisioned=1" })
    words[7], words[9], words[#words] = "-", "by its input", directory .. "/third"
    done(command.run(words, { input = "s\n" }))
    words[7], words[9] = secret, "new"
    words[#words] = directory .. "/second" -- of the same name, which is taken
    assert.equal(REFUSED, (command.run(words)))
    command.write(secret, "wrong")
    words[#words] = directory .. "/other"
    local code, out, err = command.run(words)
    assert.same({ REFUSED, "" }, { code, out })
    assert.truthy(err:find("Check the key and the secret", 1, true), err)
  end)

  it("firmware and software tell what is assigned, and download it", function()
    for _, kind in ipairs { "firmware", "software" } do
      local token = e:create_device {}
      command.write(token_file, token)
      assert.equal(NOTHING, (run(kind)))
      e:set { ota_delay = 0 }
      e:assign(token, kind, { title = "t", version = "1", size = 600000 })
      local path, out = directory .. "/package", nil
      until_true(function()
        local code
        code, out = run(kind, "--output", path)
        return code == DONE
      end)
      local about = cjson.decode(out)
      assert.same({ "t", "1", 600000, path }, { about.title, about.version, about.size, about.path })
      assert.equal(600000, #io.open(path, "rb"):read "a")
      local chunks = 0 -- of 256 KiB
      for _, request in ipairs(e:requests()) do
        if request.target:find("/" .. kind, 1, true) then chunks = chunks + 1 end
      end
      assert.equal(3, chunks)
      e:clear()
      assert.equal(FILE, (run(kind, "--output", directory .. "/none/package")))
    end
  end)

  it("firmware takes what a user has set by hand, or says which shared attribute makes no sense", function()
    local function with(json, how)
      local token = e:create_device {}
      command.write(token_file, token)
      e:set { ota_delay = 0 }
      if how then
        e:assign(token, "firmware", { title = "t", version = "2", size = 1000 })
        until_true(function() return e:attributes(token, "shared").fw_version end)
      end
      e:set_shared(token, json)
      return run("firmware", "--output", directory .. "/package")
    end
    local code, out = with('{"fw_version":2,"fw_size":1000.0}', "assigned")
    assert.same({ DONE, "2" }, { code, cjson.decode(out).version })
    local err
    for json, words in pairs {
      ['{"fw_title":"t","fw_version":true}'] = "fw_version makes no sense\n",
      ['{"fw_title":"t","fw_version":"x","fw_size":"many"}'] = "fw_size makes no sense\n",
      ['{"fw_title":"t","fw_version":"x","fw_checksum":"ab","fw_checksum_algorithm":"SHA-256"}'] =
        "fw_checksum_algorithm: one of MD5, SHA256",
    } do
      code, out, err = with(json)
      assert.same({ OTHER, "" }, { code, out })
      assert.equal("thingsboard: firmware: the shared attribute " .. words, err:sub(1, 44 + #words))
    end
    code, out, err = with '{"fw_title":"t","fw_version":"x","fw_url":"https://h.example/f"}'
    assert.same({ REFUSED, "" }, { code, out })
    assert.equal("thingsboard: the firmware is on another server, which `thingsboard update` fetches it from: "
      .. "https://h.example/f\n", err)
  end)

  it("draws on a terminal, and nowhere else, how much of a package it has", function()
    local script = command.write(directory .. "/bar.lua", [[
      local bar = require "thingsboard.command.package".bar()
      for _, call in ipairs { { 5 }, { 0, 0 }, { 0, 1 }, { 1, 3 }, { 1, 1 } } do bar(table.unpack(call)) end
    ]])
    local function drawn(full, rest) return ("\r[%s%s] %s"):format(("#"):rep(full), (" "):rep(50 - full), rest) end
    local terminal <close> = assert(io.popen(("script -qec 'lua5.4 %s' /dev/null </dev/null"):format(script)))
    assert.equal(drawn(0, "5 bytes") .. drawn(0, "0 bytes\r\n") .. drawn(0, "0 bytes") .. drawn(16, "1 bytes")
      .. drawn(50, "1 bytes\r\n"), terminal:read "a")
    local pipe <close> = assert(io.popen("lua5.4 -e 'print(require \"thingsboard.command.package\".bar())' 2>&1"))
    assert.equal("nil\n", pipe:read "a")
  end)

  describe("update", function()
    local handler, token

    before_each(function()
      token = e:create_device {}
      command.write(token_file, token)
      e:set { ota_delay = 0 }
      handler = directory .. "/handler"
    end)

    local function write_handler(verify, apply)
      command.write(handler, ([[#!/bin/sh
        cd %s
        case $1 in
        version) echo gateway; cat version ;;
        verify) %s ;;
        apply) %s ;;
        esac]]):format(directory, verify, apply), "755")
      command.write(directory .. "/version", "1\n")
    end

    local function update(...)
      return run("update", "--handler", handler, "--directory", directory, ...)
    end

    local function states()
      local list = {}
      for _, entry in ipairs(e:telemetry(token)) do
        if entry.key == "fw_state" then list[#list + 1] = entry.value end
      end
      return table.concat(list, " ")
    end

    it("installs a package, and tells UPDATED when the new version runs", function()
      write_handler('test "$(wc -c <"$2")" -eq 5000', 'cp "$2" applied; echo 2 >version')
      e:assign(token, "firmware", { title = "gateway", version = "2", size = 5000 })
      local out = done(update("-W", "20"))
      assert.same({ title = "gateway", version = "2", state = "UPDATED" }, cjson.decode(out))
      assert.equal("QUEUED INITIATED DOWNLOADING DOWNLOADED VERIFIED UPDATING UPDATED", states())
      assert.equal(5000, #io.open(directory .. "/applied"):read "a")
      assert.same({ NOTHING, "", "" }, { update("-W", "0.5") }) -- the end of the last one is no end of another
      command.write(token_file, "UNKNOWN")
      assert.equal(REFUSED, (update("-W", "20")))
    end)

    it("tells why one fails", function()
      write_handler("echo wrong board; exit 1", "touch applied")
      e:assign(token, "firmware", { title = "gateway", version = "3", size = 5000 })
      local code, out = update("-W", "20")
      assert.equal(OTHER, code)
      assert.equal("FAILED", cjson.decode(out).state)
      assert.equal("wrong board", e:series(token).fw_error[1].value)
      assert.is_nil(io.open(directory .. "/applied"))
    end)

    it("tries again what is to be tried later, and ends when nothing comes", function()
      write_handler("test -e tried || { touch tried; exit 21; }", "echo 4 >version")
      assert.equal(NOTHING, (update("-W", "1")))
      e:assign(token, "firmware", { title = "gateway", version = "4", size = 10 })
      assert.equal("UPDATED", cjson.decode(done(update())).state)
    end)

    it("wants an executable that knows the version", function()
      assert.equal(FILE, (update()))
      command.write(handler, "#!/bin/sh\nexit 1\n", "755")
      assert.equal(FILE, (update()))
    end)
  end)

  describe("put and outbox", function()
    local path

    before_each(function()
      path = directory .. "/outbox"
      command.write(token_file, e:create_device {})
    end)

    it("keep values until there is a server, with their times", function()
      local token = io.open(token_file):read "a"
      local from = tb.now()
      for n = 1, 3 do
        done(command.run { "--url", "http://127.0.0.1:1", "--token-file", token_file, "put", "--outbox", path,
          "n=" .. n })
      end
      done(run_with('{"line":1}\n{"ts":1700000000000,"values":{"line":2}}\n', "put", "-l", "--outbox", path))
      done(run("put", "--ts", "1700000000123", "--outbox", path, "then=1"))
      local before = tb.now()
      local status = cjson.decode(done(run("outbox", "status", "--outbox", path)))
      assert.equal(6, status.records)
      assert.same({}, e:telemetry(token))
      assert.equal("", done(run("outbox", "send", "--outbox", path)))
      local series = e:series(token)
      assert.same({ 3, 2 }, { #series.n, #series.line })
      assert.equal(1700000000123, series["then"][1].ts)
      assert.is_true(series.n[1].ts >= from and series.n[3].ts <= before)
      assert.equal(0, cjson.decode(done(run("outbox", "status", "--outbox", path))).records)
    end)

    it("need no server and no device to record and to tell", function()
      done(command.run { "put", "--outbox", path, "a=1" })
      assert.equal(1, cjson.decode(done(command.run { "outbox", "status", "--outbox", path })).records)
      done(run("outbox", "send", "--outbox", path))
      assert.equal("1", e:series(io.open(token_file):read "a").a[1].value)
    end)

    it("need no hardware id and no secret of the fleet either", function()
      local config = command.write(directory .. "/config.lua", ([[return { outbox = { path = %q },
        derive = { id_file = "/nonexistent", secret_file = "/nonexistent" } }]]):format(path))
      done(command.run { "--config", config, "put", "a=1" })
      assert.equal(FILE, (command.run { "--config", config, "--url", e.url, "send", "a=1" }))
    end)

    it("keep nothing in memory, whatever the configuration says to the service, which has the outbox", function()
      local holder <close> = tb.device { url = e.url, token = "OTHER" }
      assert(holder:outbox { path = path })
      command.write(directory .. "/state", '{"told":1}\n')
      local config = command.write(directory .. "/config.lua",
        "return { state = 'state', outbox = { path = 'outbox', on_trouble = 'memory', sync_every = 60 } }")
      assert.equal('{"told":1}\n', done(command.run { "--config", config, "outbox", "status" }))
      local code, out, err = command.run { "--config", config, "put", "a=1" }
      assert.same({ FILE, "" }, { code, out })
      assert.matches("another process has this outbox open\n$", err)
    end)

    it("make no file where there is nothing to tell or to send", function()
      for _, what in ipairs { "status", "send" } do
        local code, out, err = run("outbox", what, "--outbox", path)
        assert.same({ FILE, "", "thingsboard: outbox: " .. path .. ": No such file or directory\n" },
          { code, out, err })
      end
      assert.is_nil(files.stat(path))
    end)

    it("say when it cannot be done", function()
      assert.equal(FILE, (run("put", "--outbox", directory .. "/none/outbox", "a=1")))
      done(run("put", "--outbox", path, "a=1"))
      e:fault { path = "/telemetry", how = "status", status = 503 }
      assert.equal(AGAIN, (run("outbox", "send", "-W", "1", "--outbox", path)))
      e:clear_faults()
      command.write(token_file, "UNKNOWN")
      assert.equal(REFUSED, (run("outbox", "send", "--outbox", path)))
    end)

    it("know the budgets of plans by name", function()
      local function with(plan)
        return command.run { "--url", e.url, "--token-file", token_file, "put", "a=1", "--config", command.write(
          directory .. "/config.lua", ("return { outbox = { path = %q, plan = %q } }"):format(path, plan)) }
      end
      done(with "cloud-free")
      local code, _, err = with "gold"
      assert.same({ OTHER, "thingsboard: outbox: option 'plan' must be 'cloud-free'\n" }, { code, err })
    end)

    it("lose nothing to a signal", function()
      local token = io.open(token_file):read "a"
      for _, name in ipairs { "TERM", "INT", "KILL" } do
        local process, pid, to = start_reading("put", "-l", "--outbox", path)
        to:write(('{"%s":1}\n'):format(name))
        to:flush()
        tb.sleep(0.5)
        command.signal(pid, name)
        process:close()
        to:close()
      end
      done(run("outbox", "send", "--outbox", path))
      local series = e:series(token)
      assert.truthy(series.TERM and series.INT and series.KILL)
    end)
  end)
end)
