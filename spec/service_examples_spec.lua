-- The examples for the service, as they are.
local cjson = require "cjson"
local command = require "spec.support.command"
local config = require "thingsboard.command.config"
local emulator = require "spec.support.emulator"
local scratch = require "spec.support.scratch"
local until_true = require "spec.support.until_true"
local tb = require "thingsboard"

describe("of the examples for the service,", function()
  local e, directory, token
  local root = io.popen("pwd"):read "l"

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)

  before_each(function()
    directory = scratch.new()
    token = e:create_device {}
    command.write(directory .. "/token", token)
  end)

  after_each(function() scratch.remove(directory) end)

  local function ask(method, params)
    return cjson.decode(e:rpc_result(e:rpc(token, { method = method, params = params or "{}" }), 15).body)
  end

  it("the configuration can be read, and names collectors that there are", function()
    local values = assert(config.read "examples/service/config.lua")
    assert.equal("https://thingsboard.example", values.url)
    for name in pairs(values.collectors) do
      assert.truthy(package.searchpath("thingsboard.collector." .. name, package.path), name)
    end
    for name in io.popen("ls lua/thingsboard/collector"):lines() do
      assert.truthy(values.collectors[name:match "^(.*)%.lua$"], name)
    end
  end)

  it("the script puts the load and answers", function()
    local path = command.write(directory .. "/config.lua", ("return { url = %q, token_file = %q, "
      .. "outbox = { path = %q }, scripts = '%s/examples/service/scripts' }"):format(e.url, directory .. "/token",
      directory .. "/outbox", root))
    e:set_shared(token, '{"interval":0.1}')
    e:clear()
    local process, pid = command.start({ "service", path }, { errors = directory .. "/log" })
    until_true(function() return #(e:series(token).load or {}) > 2 end)
    assert.equal(1, ask("ping", '1').pong)
    command.signal(pid, "TERM")
    assert.is_true(process:close())
  end)

  it("the method tells the uptime", function()
    local process, pid = command.start { "--url", e.url, "--token-file", directory .. "/token", "rpc", "serve",
      "examples/service/methods" }
    assert.is_true(ask("uptime").uptime > 0)
    command.signal(pid, "TERM")
    assert.is_true(process:close())
  end)

  it("the tutorial does what it says", function()
    local pieces = {}
    for code in io.open("examples/service/README.md"):read("a"):gmatch "```sh\n(.-)```" do
      pieces[#pieces + 1] = code:gsub("http://127%.0%.0%.1:18080", e.url):gsub("A1_TEST_TOKEN", token)
    end
    assert.equal(3, #pieces)
    -- The command, wherever a piece has gone to.
    local function absolute(path)
      return (path:gsub("[^;]+", function(entry) return entry:find "^/" and entry or root .. "/" .. entry end))
    end
    os.execute(("mkdir %s/bin"):format(directory))
    command.write(directory .. "/bin/thingsboard", ("#!/bin/sh\nexport LUA_PATH='%s' LUA_CPATH='%s'\n"
      .. "exec lua5.4 %s/bin/thingsboard \"$@\"\n"):format(absolute(package.path), absolute(package.cpath), root),
      "755")
    local function start(piece)
      local path = command.write(directory .. "/piece",
        "set -e\necho $$\n" .. piece:gsub("thingsboard service", "exec %0"))
      local process = io.popen(("env HOME=%s PATH=%s/bin:$PATH sh %s 2>&1"):format(directory, directory, path))
      return process, process:read "n", process:read "L" and nil
    end
    for n = 1, 2 do
      local process = start(pieces[n])
      local said = process:read "a"
      assert.is_true(process:close(), said)
      if n == 2 then assert.truthy(said:find '"client":' and said:find '"shared":', said) end
    end
    assert.equal("21.5", e:series(token).temperature[1].value)
    e:set_shared(token, '{"interval":0.1}')
    local process, pid = start(pieces[3])
    until_true(function() return #e:series(token).temperature > 5 and e:series(token).load_1 end)
    assert.equal("my device", ask("identify").machine)
    command.signal(pid, "INT")
    assert.is_true(process:close())
  end)

  describe("an executable installs", function()
    before_each(function()
      e:set { ota_delay = 0 }
      os.execute(("mkdir %s/bin %s/etc %s/memory"):format(directory, directory, directory))
    end)

    -- Puts a program in front of the system's.
    local function program(name, text)
      command.write(directory .. "/bin/" .. name, "#!/bin/sh\ncd " .. directory .. "\n" .. text, "755")
    end

    local function start(handler)
      local config_text = [[return { url = %q, token_file = %q, updates = {
        kind = "firmware", apply = %q, directory = %q, package_directory = %q } }]]
      local path = command.write(directory .. "/config.lua", config_text:format(e.url, directory .. "/token",
        root .. "/examples/service/" .. handler, directory, directory .. "/memory"))
      return command.start({ "service", path }, { errors = directory .. "/log", environment = {
        PATH = directory .. "/bin:" .. os.getenv "PATH", THINGSBOARD_ROOT = directory } })
    end

    local function state()
      local list = e:series(token).fw_state
      return list and list[#list].value
    end

    it("an image of OpenWrt: checked first, UPDATED once the new version runs", function()
      command.write(directory .. "/etc/openwrt_release", "DISTRIB_ID='OpenWrt'\nDISTRIB_RELEASE='24.10.1'\n")
      program("sysupgrade", [[
        echo "$1" >>calls
        case $1 in -T) exit 0 ;; esac
        cp "$1" image; while :; do sleep 1; done]])
      local process, pid = start "update-sysupgrade"
      e:assign(token, "firmware", { title = "OpenWrt", version = "24.10.2", size = 3000 })
      until_true(function() return io.open(directory .. "/image") end)
      assert.equal(("-T\n%s/memory/firmware.package\n"):format(directory), io.open(directory .. "/calls"):read "a")
      assert.equal("UPDATING", state())
      command.signal(pid, "KILL") -- as the restart does
      process:close()
      os.execute(("pkill -f '%s/bin/[s]ysupgrade'; rm %s/memory/*"):format(directory, directory))
      command.write(directory .. "/etc/openwrt_release", "DISTRIB_ID='OpenWrt'\nDISTRIB_RELEASE='24.10.2'\n")
      process, pid = start "update-sysupgrade"
      until_true(function() return state() == "UPDATED" end)
      command.signal(pid, "TERM")
      process:close()
    end)

    it("no image that the check refuses", function()
      command.write(directory .. "/etc/openwrt_release", "DISTRIB_ID='OpenWrt'\nDISTRIB_RELEASE='24.10.1'\n")
      program("sysupgrade", [[echo "$1" >>calls; echo "Image check failed."; exit 1]])
      local process, pid = start "update-sysupgrade"
      e:assign(token, "firmware", { title = "OpenWrt", version = "24.10.2", size = 3000 })
      until_true(function() return state() == "FAILED" end)
      assert.equal("Image check failed.", e:series(token).fw_error[1].value)
      assert.equal("-T\n", io.open(directory .. "/calls"):read "a")
      command.signal(pid, "TERM")
      process:close()
    end)

    it("a package of Debian", function()
      os.execute(("mkdir -p %s/tree/DEBIAN"):format(directory))
      command.write(directory .. "/tree/DEBIAN/control", "Package: my-device\nVersion: 1.2-3\nArchitecture: all\n"
        .. "Maintainer: nobody <nobody@example.com>\nDescription: a package\n", "644")
      assert(os.execute(("dpkg-deb --root-owner-group --build %s/tree %s/deb >/dev/null"):format(directory, directory)))
      program("dpkg-query", "cat version 2>/dev/null")
      program("dpkg", [[
        test -e tried || { touch tried; echo "dpkg: error: dpkg frontend lock was locked"; exit 2; }
        cp "$2" installed; echo 1.2-3 >version]])
      local process, pid = start "update-dpkg"
      local data = io.open(directory .. "/deb", "rb"):read "a"
      e:assign(token, "firmware", { title = "my-device", version = "1.2-3", data = data })
      until_true(function() return state() == "UPDATED" end)
      assert.equal(data, io.open(directory .. "/installed", "rb"):read "a")
      command.signal(pid, "TERM")
      process:close()
    end)
  end)

  it("a package in memory that a restart has cleared comes again", function()
    e:set { ota_delay = 0 }
    os.execute(("mkdir %s/memory"):format(directory))
    local device <close> = tb.device { url = e.url, token = token }
    local tries = 0
    local function run(answer)
      return tb.spawn(function()
        device:updates { kind = "firmware", current = { title = "t", version = "1" }, directory = directory,
          package_directory = directory .. "/memory", apply = function(package)
            tries = tries + 1
            assert(io.open(package.path)):close()
            return answer
          end }
      end)
    end
    e:assign(token, "firmware", { title = "t", version = "2", size = 3000 })
    local first = run "again"
    until_true(function()
      local file = io.open(directory .. "/firmware.state")
      local phase = file and cjson.decode(file:read "a").phase
      if file then file:close() end
      return tries > 0 and phase == "verified"
    end)
    first:cancel()
    os.remove(directory .. "/memory/firmware.package")
    local second = run(true)
    until_true(function()
      local list = e:series(token).fw_state
      return list and list[#list].value == "UPDATED"
    end)
    second:cancel()
  end)
end)
