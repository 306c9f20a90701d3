-- The packages of OpenWrt's feed in a router's root; `make openwrt-test` runs it, as root. PACKAGES, STACK and ROOT are
-- folders.
local emulator = require "spec.support.emulator"
local tb = require "thingsboard"

local PACKAGES, STACK, ROOT = os.getenv "PACKAGES", os.getenv "STACK", os.getenv "ROOT"
local LUA_FOLDER = ROOT .. "/usr/local/share/lua/5.4/thingsboard"
local CONFIG, RECORD, WRITTEN = "/etc/config/thingsboard", "/tmp/procd/thingsboard", "/var/run/thingsboard/config.lua"
local MOST = { ["lua-thingsboard"] = 100, ["lua-thingsboard-outbox"] = 60, thingsboard = 60 } -- KiB, compressed

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- Runs a command in the root; returns what it said, and how it ended.
local function inside(command)
  local process = io.popen(("exec chroot %s /bin/sh -c %s 2>&1"):format(ROOT, quoted(command)))
  local said = process:read "a"
  local _, _, status = process:close()
  return said, status
end

local function must(command)
  local said, status = inside(command)
  assert(status == 0, command .. ": " .. said)
  return said
end

local function read(path)
  local file = io.open(ROOT .. path)
  local text = file and file:read "a"
  if file then file:close() end
  return text
end

local function write(path, text)
  local file = assert(io.open(ROOT .. path, "w"))
  file:write(text)
  file:close()
end

local function init(action) return inside("/etc/init.d/thingsboard " .. action) end

-- UCI's text of some sections: `{ server = { enabled = 1 } }`.
local function uci(sections)
  local lines = {}
  for section, options in pairs(sections) do
    lines[#lines + 1] = ("config %s '%s'"):format(section, section)
    for name, value in pairs(options) do lines[#lines + 1] = ("\toption %s '%s'"):format(name, value) end
  end
  write(CONFIG, table.concat(lines, "\n") .. "\n")
end

-- What the init script told procd: parameters by name; nil when there is no instance.
local function told()
  local text = read(RECORD)
  if not text then return nil end
  local parameters = {}
  for name, values in text:gmatch "(%S+) ([^\n]*)" do parameters[name] = values end
  return parameters
end

-- The service's configuration as it reads it.
local function configuration()
  return load(read(WRITTEN), "configuration", "t", {})()
end

local function until_true(what, condition)
  local deadline = tb.now() + 60000
  repeat
    local value = condition()
    if value then return value end
    os.execute "sleep 0.1"
  until tb.now() > deadline
  error("in vain: " .. what .. "\n" .. (read "/tmp/service.log" or ""), 2)
end

describe("OpenWrt's packages", function()
  local shipped

  setup(function()
    assert(os.execute(("spec/openwrt/root %s %s %s"):format(PACKAGES, STACK, ROOT)))
    assert(os.execute(("mount --bind /proc %s/proc"):format(ROOT)))
    shipped = read(CONFIG)
  end)

  teardown(function() os.execute(("umount %s/proc"):format(ROOT)) end)

  before_each(function()
    write(CONFIG, shipped)
    must "rm -rf /tmp/procd /var/run/thingsboard"
  end)

  for name, most in pairs(MOST) do
    it("are small: " .. name, function()
      local file = assert(io.open(("%s/%s.tar.gz"):format(PACKAGES, name)))
      local size = file:seek "end" / 1024
      file:close()
      print(("%s: %.1f KiB, compressed"):format(name, size))
      assert.is_true(size <= most, size)
    end)
  end

  it("pass the tests of OpenWrt's builders", function()
    write("/tmp/test.sh", io.open("packaging/openwrt/thingsboard/test.sh"):read "a")
    for _, name in ipairs { "lua-thingsboard", "lua-thingsboard-outbox", "thingsboard", "thingsboard-collectors" } do
      must(("sh /tmp/test.sh %s %s"):format(name, tb.version))
    end
  end)

  it("have the code of the sources, line by line, without the comments", function()
    local files, comments = 0, 0
    for path in io.popen(("cd %s && find . -name '*.lua'"):format(LUA_FOLDER)):lines() do
      local packed = read(LUA_FOLDER:sub(#ROOT + 1) .. path:sub(2))
      local file <close> = assert(io.open("lua/thingsboard" .. path:sub(2)))
      -- Not stripped, they have the line of each instruction.
      assert.equal(string.dump(assert(load(file:read "a", "=code"))), string.dump(assert(load(packed, "=code"))), path)
      files = files + 1
      comments = comments + select(2, packed:gsub("\n *%-%-", ""))
    end
    assert.is_true(files > 50)
    assert.equal(0, comments)
  end)

  it("make room at the first start, and spare what exists at later ones", function()
    must "sh /etc/uci-defaults/80_thingsboard"
    assert.equal("700 453 453\n", must "stat -c '%a %u %g' /etc/thingsboard")
    assert.equal(shipped, read(CONFIG))
    uci { server = { url = "https://mine.example" } }
    local mine = read(CONFIG)
    must "echo mine >/etc/thingsboard/scripts/a.lua; sh /etc/uci-defaults/80_thingsboard"
    assert.equal(mine, read(CONFIG):sub(1, #mine))
    assert.equal("outbox\nservice\n", must "uci get thingsboard.outbox; uci get thingsboard.service")
    assert.equal("mine\n", must "cat /etc/thingsboard/scripts/a.lua; rm /etc/thingsboard/scripts/a.lua")
    assert.equal("/etc/thingsboard/\n", must "cat /lib/upgrade/keep.d/thingsboard")
  end)

  it("start nothing until that is wanted", function()
    assert.equal("", (init "start"))
    assert.is_nil(told())
    uci { server = { enabled = 1, url = "https://thingsboard.example", token = "T" }, outbox = {}, service = {} }
    init "start"
    assert.is_table(told())
    write(CONFIG, shipped)
    init "reload"
    assert.is_nil(told())
  end)

  it("refuse what makes no sense, and name it", function()
    local url = "https://thingsboard.example"
    for reason, sections in pairs {
      ["server.url is not"] = { server = { enabled = 1, url = "thingsboard.example", token = "T" } },
      ["give server.token"] = { server = { enabled = 1, url = url } },
      ["'server'"] = { server = { enabled = 1, url = url, token = "T", timeout = "soon" } },
      ["'outbox'"] = { server = { enabled = 1, url = url, token = "T" }, outbox = { path = "/tmp/o", max_bytes = 1 } },
      ["'service'"] = { server = { enabled = 1, url = url, token = "T" }, service = { log = "loud" } },
      ["cannot be printed"] = { server = { enabled = 1, url = url, token = "T\1" } },
    } do
      uci(sections)
      local said = init "start"
      assert.is_nil(told())
      assert.truthy(said:find(reason, 1, true), said)
      assert.is_nil(read(WRITTEN))
    end
  end)

  it("write the service's configuration, which none but its user reads", function()
    local odd = [[a "b" \n $HOME `id` ]] .. "]] c"
    uci {
      server = { enabled = 1, url = "https://thingsboard.example", verify = 0, timeout = 40 },
      provision = { key = "key", secret = odd },
      outbox = { path = "/tmp/outbox", sync_every = 10, max_bytes = 100000, plan = "cloud-free" },
      service = { collector = "load", log = "debug" },
    }
    init "start"
    assert.same({
      url = "https://thingsboard.example", verify = false, timeout = 40,
      provision = {
        key = "key", secret = odd, name = must "cat /proc/sys/kernel/hostname":gsub("\n", ""),
        store = "/etc/thingsboard/credentials",
      },
      outbox = { path = "/tmp/outbox", sync_every = 10, max_bytes = 100000, plan = "cloud-free" },
      scripts = "/etc/thingsboard/scripts", log = "debug", collectors = { load = {} },
      clock_file = "/var/run/thingsboard/clock",
    }, configuration())
    assert.equal("600 453\n", must("stat -c '%a %u' " .. WRITTEN))
    assert.same({
      command = "/usr/bin/thingsboard service " .. WRITTEN, file = WRITTEN, respawn = "3600 5 0", stdout = "1",
      stderr = "1", user = "thingsboard", term_timeout = "15",
    }, told())
    assert.equal("thingsboard\n", read(RECORD .. ".triggers"))
  end)

  describe("with a server", function()
    local e, process

    setup(function() e = emulator.start() end)
    teardown(function() e:stop() end)

    -- Does as procd would.
    local function run()
      local parameters = told()
      assert.equal("thingsboard", parameters.user)
      process = io.popen(("echo $$; exec chroot --userspec=453:453 %s /usr/bin/env -i PATH=/usr/bin:/sbin:/bin "
        .. "%s >%s/tmp/service.log 2>&1"):format(ROOT, parameters.command, ROOT))
      local pid = process:read "l"
      write(RECORD .. ".pid", pid)
      return pid
    end

    after_each(function()
      if not process then return end
      os.execute("kill " .. read(RECORD .. ".pid"))
      process:close()
      process = nil
    end)

    it("run scripts, take up new ones and the clock, and show no token", function()
      must "sh /etc/uci-defaults/80_thingsboard"
      write("/etc/thingsboard/scripts/hello.lua", [[
        local tb, device = ...
        device:on_rpc("double", function(params) return params * 2 end)
        while true do
          device:put { hello = 21.5 }
          tb.sleep(1)
        end
      ]])
      uci { server = { enabled = 1, url = e.url, token = e.token },
        outbox = { path = "/etc/thingsboard/outbox", sync_every = 1 }, service = { collector = "memory" } }
      init "start"
      local pid = run()
      until_true("telemetry", function() return e:series(e.token).hello end)
      until_true("a collector's", function() return e:series(e.token).memory_available end)
      assert.equal("42", e:rpc_result(e:rpc(e.token, { method = "double", params = "21" }), 30).body)
      local line = io.open("/proc/" .. pid .. "/cmdline"):read "a"
      assert.truthy(line:find(WRITTEN, 1, true))
      assert.is_nil(line:find(e.token, 1, true))
      assert.is_nil(io.open("/proc/" .. pid .. "/environ"):read "a":find(e.token, 1, true))
      assert.is_nil(read "/tmp/service.log":find(e.token, 1, true))

      write("/etc/thingsboard/scripts/second.lua", "local _, device = ... device:put { second = 1 }")
      init "reload"
      until_true("second", function() return e:series(e.token).second end)
      must "ACTION=step . /etc/hotplug.d/ntp/40-thingsboard"
      assert.is_nil(read "/var/run/thingsboard/clock")
      must "ACTION=stratum . /etc/hotplug.d/ntp/40-thingsboard"
      until_true("the clock", function() return read "/tmp/service.log":find "clock" end)
    end)
  end)
end)
