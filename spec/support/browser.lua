--- A headless Chromium, driven by WebDriver: HTTP and JSON to a chromedriver of its own.
-- @usage
-- local browser = require("spec.support.browser").start()
-- browser:open(emulator.page)
-- browser:click("#send-rpc button")
local cjson = require "cjson"
local ltn12 = require "ltn12"
local http = require "socket.http"
local socket = require "socket"

local browser = {}

local Browser = {}
Browser.__index = Browser

local ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
local PATIENCE = 30
local NONE = { 0 } -- arguments of a script: an empty list cannot be told from an empty object

local FLAGS = {
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--lang=en-GB",
}

local function call(self, method, path, fields)
  local body = fields and cjson.encode(fields)
  local parts = {}
  local _, status = http.request {
    url = self.url .. path, method = method, sink = ltn12.sink.table(parts),
    source = body and ltn12.source.string(body),
    headers = body and { ["Content-Type"] = "application/json", ["Content-Length"] = #body },
  }
  local text = table.concat(parts)
  if status ~= 200 then
    local read, answer = pcall(cjson.decode, text)
    error(("WebDriver %s %s: %s"):format(method, path, read and answer.value.message or status), 3)
  end
  return cjson.decode(text).value
end

--- Starts a browser with an empty profile.
function browser.start()
  local profile = os.tmpname()
  os.remove(profile)
  local process = assert(io.popen("echo $$; exec chromedriver --port=0 2>/dev/null", "r"))
  local self = setmetatable({ process = process, pid = process:read "l", profile = profile }, Browser)
  local port
  repeat
    port = (assert(process:read "l", "chromedriver does not start")):match("started successfully on port (%d+)")
  until port
  self.url = "http://127.0.0.1:" .. port
  local arguments = { "--user-data-dir=" .. profile, table.unpack(FLAGS) }
  local session = call(self, "POST", "/session", { capabilities = { alwaysMatch = {
    browserName = "chrome", ["goog:chromeOptions"] = { args = arguments },
    ["goog:loggingPrefs"] = { browser = "ALL" },
  } } })
  self.url = self.url .. "/session/" .. session.sessionId
  return self
end

--- Ends the browser, and removes its profile.
function Browser:stop()
  if not self.process then return end
  pcall(call, self, "DELETE", "")
  os.execute("kill " .. self.pid)
  self.process:close()
  self.process = nil
  os.execute("rm -rf '" .. self.profile .. "'")
end

Browser.__gc = Browser.stop
Browser.__close = Browser.stop

--- Opens an address.
function Browser:open(url) call(self, "POST", "/url", { url = url }) end

--- Runs JavaScript, the body of a function, and returns what it returns.
function Browser:run(script)
  local result = call(self, "POST", "/execute/sync", { script = script, args = NONE })
  if result == cjson.null then return nil end
  return result
end

--- Runs JavaScript that calls `done(result)` when it has one.
function Browser:run_async(script)
  return call(self, "POST", "/execute/async", { script = "const done = arguments[1];" .. script, args = NONE })
end

--- Waits until an expression of JavaScript is true, and returns it.
function Browser:wait(expression, seconds)
  local deadline = socket.gettime() + (seconds or PATIENCE)
  while true do
    local value = self:run("return " .. expression)
    if value and value ~= cjson.null then return value end
    if socket.gettime() > deadline then
      local shown = self:run("return document.querySelector('main')?.innerText.slice(0, 500)")
      error(("the page never came to: %s\n%s"):format(expression, shown), 2)
    end
    socket.sleep(0.05)
  end
end

function Browser:find(selector)
  self:wait(("document.querySelector(%s)"):format(cjson.encode(selector)) .. " !== null")
  return call(self, "POST", "/element", { using = "css selector", value = selector })[ELEMENT]
end

--- Clicks what a selector finds, as a mouse does.
function Browser:click(selector) call(self, "POST", "/element/" .. self:find(selector) .. "/click", { dummy = 0 }) end

--- Types keys into what a selector finds, in place of what stands there.
function Browser:type(selector, text)
  local path = "/element/" .. self:find(selector)
  self:run(("const e = document.querySelector(%s); if (e.type !== 'file') e.value = ''"):format(cjson.encode(selector)))
  call(self, "POST", path .. "/value", { text = text })
end

--- Presses keys, where the focus is.
function Browser:press(...)
  local actions = {}
  for _, key in ipairs { ... } do
    actions[#actions + 1] = { type = "keyDown", value = key }
    actions[#actions + 1] = { type = "keyUp", value = key }
  end
  call(self, "POST", "/actions", { actions = { { type = "key", id = "keyboard", actions = actions } } })
end

--- Chooses an option of a select.
function Browser:choose(selector, value)
  self:find(selector)
  self:run(([[const e = document.querySelector(%s); e.value = %s;
    e.dispatchEvent(new Event("change", { bubbles: true }))]]):format(cjson.encode(selector), cjson.encode(value)))
end

--- The text of what a selector finds.
function Browser:text(selector)
  self:find(selector)
  return self:run(("return document.querySelector(%s).textContent"):format(cjson.encode(selector)))
end

--- What the page wrote to its console, and what failed to load.
function Browser:complaints()
  local list = {}
  for _, entry in ipairs(call(self, "POST", "/se/log", { type = "browser" })) do list[#list + 1] = entry.message end
  return list
end

--- A command of Chromium's own.
function Browser:cdp(command, parameters)
  return call(self, "POST", "/goog/cdp/execute", { cmd = command, params = parameters })
end

--- The window's size in pixels.
function Browser:resize(width, height)
  self:cdp("Emulation.setDeviceMetricsOverride",
    { width = width, height = height, deviceScaleFactor = 1, mobile = false })
end

--- "light" or "dark".
function Browser:scheme(name)
  self:cdp("Emulation.setEmulatedMedia", { features = { { name = "prefers-color-scheme", value = name } } })
end

--- Writes what is seen to a file.
function Browser:screenshot(path)
  local base64 = call(self, "GET", "/screenshot")
  local pipe = assert(io.popen("base64 -d > '" .. path .. "'", "w"))
  pipe:write(base64)
  pipe:close()
end

return browser
