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
      ["derive.id_file is missing"] = { server = { enabled = 1, url = url }, derive = { secret = ("s"):rep(16) } },
      ["derive.secret has less than 16"] = { server = { enabled = 1, url = url },
        derive = { id_file = "/etc/passwd", secret = "short" } },
      ["'derive'"] = { server = { enabled = 1, url = url },
        derive = { id_file = "/nothing", secret = ("s"):rep(16) } },
      ["'updates'"] = { server = { enabled = 1, url = url, token = "T" },
        updates = { enabled = 1, kind = "hardware" } },
      ["updates.apply cannot be executed"] = { server = { enabled = 1, url = url, token = "T" },
        updates = { enabled = 1, apply = "/etc/passwd" } },
      ["give updates.apply"] = { server = { enabled = 1, url = url, token = "T" },
        updates = { enabled = 1, title = "gateway" } },
    } do
      uci(sections)
      local said = init "start"
      assert.is_nil(told())
      assert.truthy(said:find(reason, 1, true), said)
      assert.is_nil(read(WRITTEN))
    end
  end)

  it("write the service's configuration, which none but its user reads", function()
    local odd = [[a "b" \n $HOME `id` ü ]] .. "]] c"
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
        key = "key", secret = odd, device_name = must "cat /proc/sys/kernel/hostname":gsub("\n", ""),
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

  it("let no script of the service's user make root write elsewhere", function()
    write("/etc/victim", "root's\n")
    uci { server = { enabled = 1, url = "https://thingsboard.example" }, derive = { id_file = "/etc/hardware",
      secret = ("s"):rep(16) } }
    write("/etc/hardware", "00:11:22:33:44:55\n")
    init "start"
    for _, path in ipairs { WRITTEN, WRITTEN .. ".new", "/var/run/thingsboard/fleet", "/etc/thingsboard/link" } do
      os.execute(("chroot --userspec=453:453 %s /bin/ln -sf /etc/victim %s 2>/dev/null"):format(ROOT, path))
    end
    init "reload"
    init "start"
    assert.equal("root's\n", read "/etc/victim")
    assert.equal("0\n", must "stat -c %u /etc/victim")
    must "rm -f /etc/thingsboard/link"
  end)

  it("derive the token before provisioning, from a secret that none but the service's user reads", function()
    local secret = [[a 'fleet' "secret"]]
    uci {
      server = { enabled = 1, url = "https://thingsboard.example" },
      derive = { id_file = "/etc/hardware", secret = secret }, provision = { key = "key", secret = "secret" },
    }
    write("/etc/hardware", "00:11:22:33:44:55\n")
    init "start"
    local written = configuration()
    assert.is_nil(written.provision)
    assert.same({ id_file = "/etc/hardware", secret_file = "/var/run/thingsboard/fleet" }, written.derive)
    assert.equal(secret .. "\n", read "/var/run/thingsboard/fleet")
    assert.equal("600 453\n", must "stat -c '%a %u' /var/run/thingsboard/fleet")
    assert.is_nil(read(WRITTEN):find("fleet' ", 1, true))
    local before = read(WRITTEN)
    uci { server = { enabled = 1, url = "https://thingsboard.example" },
      derive = { id_file = "/etc/hardware", secret = secret .. "!" } }
    init "reload"
    assert.not_equal(before, read(WRITTEN)) -- by which procd knows that it has to start the service anew
    uci { server = { enabled = 1, url = "https://thingsboard.example", token = "T" } }
    init "reload"
    assert.is_nil(read "/var/run/thingsboard/fleet")
  end)

  it("tell the service what installs updates, as root, or what runs now", function()
    local server = { enabled = 1, url = "https://thingsboard.example", token = "T" }
    uci { server = server, updates = { enabled = 1, apply = "/usr/lib/thingsboard/update-sysupgrade", strong = 1 } }
    init "start"
    assert.same({ kind = "firmware", directory = "/etc/thingsboard", package_directory = "/tmp", strong = true,
      apply = "/usr/lib/thingsboard/update-sysupgrade" }, configuration().updates)
    assert.equal("root", told().user)
    uci { server = server, updates = { enabled = 1, kind = "software", title = "gateway", version = "1.0" } }
    init "reload"
    assert.same({ kind = "software", directory = "/etc/thingsboard", package_directory = "/tmp",
      current = { title = "gateway", version = "1.0" } }, configuration().updates)
    assert.equal("thingsboard", told().user)
    uci { server = server, updates = { kind = "software" } }
    init "reload"
    assert.is_nil(configuration().updates)
  end)

  describe("with a server", function()
    local e, process

    setup(function() e = emulator.start() end)
    teardown(function() e:stop() end)

    -- Does as procd would.
    local function run()
      local parameters = told()
      local user = parameters.user == "root" and "0:0" or "453:453"
      process = io.popen(("echo $$; exec chroot --userspec=%s %s /usr/bin/env -i PATH=/usr/bin:/sbin:/bin "
        .. "%s >%s/tmp/service.log 2>&1"):format(user, ROOT, parameters.command, ROOT))
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
      assert.equal("thingsboard", told().user)
      must "ACTION=step . /etc/hotplug.d/ntp/40-thingsboard"
      assert.is_nil(read "/var/run/thingsboard/clock")
      must "ACTION=stratum . /etc/hotplug.d/ntp/40-thingsboard"
      until_true("the clock", function() return read "/tmp/service.log":find "clock" end)
    end)

    it("run the example of a device script, as the device of a derived token", function()
      must "sh /etc/uci-defaults/80_thingsboard"
      local file <close> = assert(io.open "examples/service/scripts/gateway.lua")
      write("/etc/thingsboard/scripts/gateway.lua", file:read "a")
      write("/etc/hardware", "00:11:22:33:44:55\n")
      local token = tb.derive_token("00:11:22:33:44:55", "a secret of the fleet")
      e:create_device { name = "router", token = token }
      e:set_shared(token, '{"name":"hall","interval":1}')
      uci { server = { enabled = 1, url = e.url },
        derive = { id_file = "/etc/hardware", secret = "a secret of the fleet" },
        outbox = { path = "/etc/thingsboard/outbox-of-hall" } }
      init "start"
      run()
      until_true("telemetry", function() return e:series(token).load and #e:series(token).load > 1 end)
      until_true("an attribute", function() return read "/tmp/service.log":find("hall", 1, true) end)
      local answer = e:rpc_result(e:rpc(token, { method = "ping", params = "7" }), 30).body
      assert.truthy(answer:find('"pong":7', 1, true), answer)
      assert.is_nil(read "/tmp/service.log":find(token, 1, true))
    end)

    it("provision a device, and keep its credentials", function()
      must "sh /etc/uci-defaults/80_thingsboard; rm -f /etc/thingsboard/credentials"
      e:provision_profile { key = "k", secret = "profile's \"secret\"", strategy = "ALLOW_CREATE" }
      uci { server = { enabled = 1, url = e.url },
        provision = { key = "k", secret = "profile's \"secret\"", name = "hall" },
        service = { scripts = "/tmp/none", collector = "memory" } }
      must "mkdir -p /tmp/none"
      init "start"
      run()
      until_true("credentials", function() return read "/etc/thingsboard/credentials" end)
      assert.equal("600 453\n", must "stat -c '%a %u' /etc/thingsboard/credentials")
      local token = read "/etc/thingsboard/credentials":match '"token":"([^"]+)"'
      until_true("telemetry", function() return e:series(token).memory_total end)
      local asked
      for _, request in ipairs(e:requests()) do
        if request.target:find("/provision", 1, true) then asked = request.body end
      end
      assert.truthy(asked:find('"deviceName":"hall"', 1, true), asked)
    end)

    it("install a package by an executable", function()
      must "sh /etc/uci-defaults/80_thingsboard"
      write("/etc/handler", [[
#!/bin/sh
case $1 in
version) echo gateway; cat /etc/version ;;
apply) wc -c <"$2" >/etc/size; echo 2.0 >/etc/version ;;
esac
]])
      must "chmod +x /etc/handler; echo 1.0 >/etc/version"
      e:set { ota_delay = 0 }
      uci { server = { enabled = 1, url = e.url, token = e.token }, service = { scripts = "/tmp/none" },
        updates = { enabled = 1, kind = "software", apply = "/etc/handler" }, outbox = { path = "/tmp/outbox" } }
      must "mkdir -p /tmp/none"
      init "start"
      run()
      e:assign(e.token, "software", { title = "gateway", version = "2.0", size = 50000 })
      until_true("the state", function()
        local states = e:series(e.token).sw_state
        return states and states[#states].value == "UPDATED"
      end)
      assert.equal("50000", read "/etc/size":match "%d+")
    end)
  end)

  -- The last: it takes away what the others need.
  it("are upgraded and removed: changed configuration stays, and nothing else", function()
    local function opkg(action, name)
      assert(os.execute(("spec/openwrt/opkg %s %s %s"):format(action, ROOT, name)))
    end
    local packages = { "lua-thingsboard", "lua-thingsboard-outbox", "thingsboard", "thingsboard-collectors" }
    must "rm -rf /etc/thingsboard"
    must "sh /etc/uci-defaults/80_thingsboard"
    uci { server = { enabled = 1, url = "https://mine.example", token = "T" } }
    must "echo mine >>/etc/init.d/thingsboard; touch /etc/thingsboard/outbox"
    local mine = read(CONFIG)
    for _, name in ipairs(packages) do opkg("install", ("%s/%s.tar.gz"):format(PACKAGES, name)) end
    assert.equal(mine, read(CONFIG))
    assert.equal(shipped, read(CONFIG .. "-opkg"))
    must "sh -n /etc/init.d/thingsboard; ! grep mine /etc/init.d/thingsboard; ls /etc/thingsboard/outbox"
    init "start"
    assert.is_table(told())
    must "rm /etc/config/thingsboard-opkg"

    for at = #packages, 1, -1 do opkg("remove", packages[at]) end
    assert.is_nil(told())
    local found = [[find / -xdev -path /proc -prune -o -path /tmp/procd -prune -o \( -name '*thingsboard*' -o -path ]]
      .. [['*opkg/info/*' \) -print | sort]]
    assert.equal(CONFIG .. "\n/etc/thingsboard\n", must(found)) -- changed, and with a file in it
    must "rm -r /etc/thingsboard /etc/config/thingsboard"

    for _, name in ipairs(packages) do opkg("install", ("%s/%s.tar.gz"):format(PACKAGES, name)) end
    must "sh /etc/uci-defaults/80_thingsboard"
    for at = #packages, 1, -1 do opkg("remove", packages[at]) end
    assert.equal("", must(found))
  end)
end)
