-- Wi-Fi: wifi_NAME_stations, how many stations are associated with each of `interfaces`; with all if absent. Asks `iw`,
-- or hostapd by `ubus`; the options of these names say where they are.
local child = require "thingsboard.loop.child"
local json = require "thingsboard.json.decode"
local loop = require "thingsboard.loop"
local measure = require "thingsboard.service.measure"
local process = require "thingsboard.process"
local tb, device, options = ...

local TIMEOUT <const> = 10 -- seconds

local function ask(...)
  local result = child.run(loop.default(), { timeout = TIMEOUT, max_output = 1 << 20, ... })
  return result and result.code == 0 and not result.too_long and result.output or nil
end

local function by_iw(given, name)
  local text = ask(given.iw or "iw", "dev", name, "station", "dump")
  return text and select(2, ("\n" .. text):gsub("\nStation ", ""))
end

local function by_ubus(given, name)
  local text = ask(given.ubus or "ubus", "call", "hostapd." .. name, "get_clients")
  local answer = text and json.decode(text)
  if type(answer) ~= "table" or type(answer.clients) ~= "table" then return nil end
  local count = 0
  for _ in next, answer.clients do count = count + 1 end
  return count
end

local function interfaces(given)
  if given.interfaces then return given.interfaces end
  local found = {}
  for _, name in ipairs(process.list(given.root .. "/sys/class/net") or {}) do
    if process.stat(given.root .. "/sys/class/net/" .. name .. "/phy80211") then found[#found + 1] = name end
  end
  return found
end

measure.run(tb, device, options, { interfaces = "table", iw = "text", ubus = "text" }, 60, function(given)
  local values = {}
  for _, name in ipairs(interfaces(given)) do
    values["wifi_" .. measure.key(name) .. "_stations"] = by_iw(given, name) or by_ubus(given, name)
  end
  return values
end)
