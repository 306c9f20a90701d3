-- The collectors, in a service as a process, over a /proc and a /sys of the spec's.
local command = require "spec.support.command"
local core = require "thingsboard.core"
local emulator = require "spec.support.emulator"
local scratch = require "spec.support.scratch"
local until_true = require "spec.support.until_true"
local tb = require "thingsboard"

describe("collectors", function()
  local e, directory, root, process, pid

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)

  before_each(function()
    directory = scratch.new()
    root = directory .. "/root"
  end)

  after_each(function()
    if process then
      command.signal(pid, "TERM")
      process:close()
    end
    process = nil
    scratch.remove(directory)
  end)

  local function write(path, text, mode)
    os.execute(("mkdir -p '%s'"):format((root .. path):match "^(.*)/"))
    command.write(root .. path, text, mode or "644")
  end

  local token

  -- Starts a service with these options of collectors, as Lua text; each measures every tenth of a second.
  local function start(collectors)
    token = e:create_device {}
    local config = ([[
      local root, every = %q, 0.1
      return { url = %q, token_file = %q, outbox = { path = %q }, collectors = { %s } }
    ]]):format(root, e.url, command.write(directory .. "/token", token), directory .. "/outbox", collectors)
    process, pid = command.start({ "service", command.write(directory .. "/config.lua", config) },
      { errors = directory .. "/log" })
  end

  local function last(key)
    return until_true(function()
      local list = e:series(token)[key]
      return list and tonumber(list[#list].value)
    end)
  end

  -- A collector as a function of the module, the device and its options.
  local function load_collector(name)
    local path = package.searchpath("thingsboard.collector." .. name, package.path)
    return assert(loadfile(path))
  end

  -- What a collector puts at last, of so many times.
  local function measured(name, options, times)
    local values
    options.root = root
    local module, device = setmetatable({ sleep = coroutine.yield }, { __index = tb }), {}
    function device.put(_, taken) values = taken end
    local run = coroutine.wrap(load_collector(name))
    for _ = 1, times or 1 do run(module, device, options) end
    return values
  end

  it("refuse an option of another type, and name it", function()
    local kinds = {
      every = "a number above 0", root = "a non%-empty string", file = "a non%-empty string", interfaces = "a table",
      paths = "a table", iw = "a non%-empty string", ubus = "a non%-empty string",
    }
    for name, own in pairs {
      dhcp = "file", load = "", memory = "", network = "interfaces", storage = "paths", temperature = "",
      wifi = "interfaces iw ubus",
    } do
      for option in ("every root " .. own):gmatch "%S+" do
        assert.error_matches(function() load_collector(name)(tb, {}, { [option] = true }) end,
          ("collector: option '%s' must be %s"):format(option, kinds[option]))
      end
    end
  end)

  it("measure every minute, what changes slowly every five, unless the options say otherwise", function()
    local periods = { dhcp = 60, load = 60, memory = 60, network = 60, storage = 300, temperature = 60, wifi = 60 }
    local module = setmetatable({ sleep = coroutine.yield }, { __index = tb })
    for name, seconds in pairs(periods) do
      for _, every in ipairs { seconds, 7 } do
        local run = coroutine.wrap(load_collector(name))
        local options = { root = root, every = every ~= seconds and every or nil }
        assert.equal(every, run(module, { put = function() end }, options), name)
      end
    end
  end)

  it("tell load and uptime", function()
    write("/proc/loadavg", "0.52 0.30 1.25 1/234 5678\n")
    write("/proc/uptime", "12345.67 20000.00\n")
    start "load = { root = root, every = every }"
    assert.same({ 0.52, 0.3, 1.25, 12345 }, { last "load_1", last "load_5", last "load_15", last "uptime" })
  end)

  it("tell memory, also of old kernels", function()
    write("/proc/meminfo", "MemTotal:  60000 kB\nMemFree:  1000 kB\nMemAvailable:   20000 kB\nHugePages_Total:   0\n")
    start "memory = { root = root, every = every }"
    assert.same({ 60000 * 1024, 20000 * 1024 }, { last "memory_total", last "memory_available" })
    write("/proc/meminfo", "MemTotal:  60000 kB\nMemFree:  1000 kB\nBuffers: 20 kB\nCached:   300 kB\n")
    until_true(function() return last "memory_available" == 1320 * 1024 end)
    write("/proc/meminfo", "MemTotal:  60000 kB\nMemFree:  1000 kB\n")
    until_true(function() return last "memory_available" == 1000 * 1024 end)
  end)

  it("tell what room there is", function()
    write("/overlay/file", "")
    start "storage = { root = root, every = every, paths = { '/', '/overlay', '/none' } }"
    local all = last "storage_root_total"
    assert.is_true(all > 0 and last "storage_root_free" <= all)
    assert.equal(all, last "storage_overlay_total")
    assert.is_nil(e:series(token).storage_none_total)
    assert.equal(all, measured("storage", {}).storage_root_total)
  end)

  it("tell rates of interfaces, and none when they count anew", function()
    local function dev(received, sent)
      write("/proc/net/dev", ([[
Inter-|   Receive                          |  Transmit
 face |bytes packets errs drop (and so on) |bytes packets errs drop (and so on)
    lo: %d 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0
br-lan: %d 1 0 0 0 0 0 0 %d 1 0 0 0 0 0 0
]]):format(received, received, sent))
    end
    dev(1000, 5000)
    start "network = { root = root, every = every }"
    assert.equal(0, last "network_br_lan_received")
    dev(101000, 5000)
    until_true(function()
      for _, entry in ipairs(e:series(token).network_br_lan_received) do
        local rate = tonumber(entry.value)
        if rate > 100000 and rate <= 1100000 then return true end -- in a tenth of a second, or a little more
      end
    end)
    dev(10, 5000)
    tb.sleep(0.5)
    for _, entry in ipairs(e:series(token).network_br_lan_received) do assert.is_true(tonumber(entry.value) >= 0) end
    assert.equal(0, last "network_br_lan_sent")
    assert.is_nil(e:series(token).network_lo_received)
    local monotonic, now = core.monotonic, 100
    finally(function() core.monotonic = monotonic end)
    function core.monotonic()
      now = now + 2
      dev(now * 500, now * 5000)
      return now
    end
    local given = { interfaces = { "eth0", "br-lan" } }
    assert.same({ network_br_lan_received = 500, network_br_lan_sent = 5000 }, measured("network", given, 2))
    assert.same({}, measured("network", given))
    assert.same({ network_lo_received = 500, network_lo_sent = 0 }, measured("network", { interfaces = { "lo" } }, 2))
  end)

  it("tell the stations of Wi-Fi, by iw or by ubus", function()
    write("/sys/class/net/wlan0/phy80211", "")
    write("/sys/class/net/eth0/mtu", "1500")
    write("/iw", "#!/bin/sh\ntest \"$*\" = 'dev wlan0 station dump' || exit 1\n"
      .. "printf 'Station 00:11:22:33:44:55 (on wlan0)\\n\\tsignal: -50\\n'\n"
      .. "echo 'Station 66:77:88:99:aa:bb (on wlan0)'\n", "755")
    write("/ubus", "#!/bin/sh\ntest \"$*\" = 'call hostapd.wlan0 get_clients' || exit 1\n"
      .. "echo '{\"freq\":2412,\"clients\":{\"00:11\":{\"auth\":true},\"66:77\":{},\"88:99\":{}}}'\n", "755")
    start "wifi = { root = root, every = every, iw = root .. '/iw', ubus = root .. '/ubus' }"
    assert.equal(2, last "wifi_wlan0_stations")
    os.remove(root .. "/iw")
    until_true(function() return last "wifi_wlan0_stations" == 3 end)
    assert.is_nil(e:series(token).wifi_eth0_stations)
    local given = { interfaces = { "wlan1", "wlan0" }, iw = root .. "/iw", ubus = root .. "/ubus" }
    assert.same({ wifi_wlan0_stations = 3 }, measured("wifi", given))
    for _, answer in ipairs { "nonsense", "5", "{}", '{"clients":5}' } do
      write("/ubus", "#!/bin/sh\necho '" .. answer .. "'\n", "755")
      assert.same({}, measured("wifi", given))
    end
  end)

  it("tell temperatures", function()
    write("/sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    write("/sys/class/thermal/thermal_zone0/temp", "48312\n")
    write("/sys/class/thermal/thermal_zone1/type", "cpu-thermal\n")
    write("/sys/class/thermal/thermal_zone1/temp", "50000\n")
    write("/sys/class/thermal/thermal_zone2/type", "cpu-thermal\n")
    write("/sys/class/thermal/thermal_zone2/temp", "51000\n")
    write("/sys/class/thermal/thermal_zone3/temp", "52000\n")
    write("/sys/class/thermal/cooling_device0/type", "fan\n")
    write("/sys/class/thermal/cooling_device0/temp", "53000\n")
    write("/sys/class/hwmon/hwmon0/name", "tmp102\n")
    write("/sys/class/hwmon/hwmon0/temp1_input", "-2500\n")
    write("/sys/class/hwmon/hwmon0/fan1_input", "1200\n")
    write("/sys/class/hwmon/hwmon1/temp2_input", "1000\n")
    write("/sys/class/hwmon/hwmon1/temp3_input", "no number\n")
    start "temperature = { root = root, every = every }"
    assert.same({ 48.312, 50, -2.5 },
      { last "temperature_cpu_thermal", last "temperature_cpu_thermal_2", last "temperature_tmp102" })
    assert.same({
      temperature_cpu_thermal = 48.312, temperature_cpu_thermal_2 = 50, temperature_cpu_thermal_3 = 51,
      temperature_thermal_zone3 = 52, temperature_tmp102 = -2.5, temperature_hwmon1 = 1,
    }, measured("temperature", {}))
  end)

  it("tell how many leases stand", function()
    write("/var/lib/misc/dnsmasq.leases", "0 88:99 192.168.1.4 fixed *\n")
    assert.same({ dhcp_leases = 1 }, measured("dhcp", {})) -- Debian's
    write("/tmp/dhcp.leases", ("%d 00:11:22:33:44:55 192.168.1.2 phone *\n1000 66:77 192.168.1.3 old *\n"
      .. "0 88:99 192.168.1.4 fixed *\n"):format(os.time() + 3600))
    start "dhcp = { root = root, every = every }, load = true, memory = false"
    assert.equal(2, last "dhcp_leases")
    assert.is_true(last "load_1" >= 0)
    assert.is_nil(e:series(token).memory_total)
    write("/leases", "1000 66:77 192.168.1.3 old *\n")
    assert.same({ dhcp_leases = 0 }, measured("dhcp", { file = "/leases" }))
    assert.same({}, measured("dhcp", { file = "/none" }))
  end)

  it("do without what there is not, and name what they do not know", function()
    os.execute("mkdir " .. root)
    write("/proc/loadavg", "0.50 0.30 1.25 1/234 5678\n")
    start [[
      load = { root = root, every = every, colour = 1 }, memory = { root = root, every = every }, dhcp = false,
      network = { root = root, every = every }, wifi = { root = root, every = every },
      temperature = { root = root, every = every }, nonsense = {}
    ]]
    local function log_text()
      local file <close> = io.open(directory .. "/log")
      return file and file:read "a" or ""
    end
    until_true(function() return log_text():find "unknown option 'colour'" end)
    tb.sleep(0.5)
    local log = log_text()
    assert.truthy(log:find("there is none called 'nonsense'", 1, true))
    for _, name in ipairs { "memory", "network", "wifi", "temperature" } do
      assert.falsy(log:find("collector " .. name, 1, true), log)
    end
  end)
end)
