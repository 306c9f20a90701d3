--- The page that a person opens in a browser, served on the emulator's own port below a path with a secret in it:
-- files, a stream of what changes, what a view asks for, and the commands of the control interface.
local cjson = require "cjson"
local cqueues = require "cqueues"
local answers = require "spec.emulator.answers"
local control = require "spec.emulator.control"
local parameters = require "spec.emulator.parameters"
local watch = require "spec.emulator.watch"

local page = {}

local FOLDER = debug.getinfo(1, "S").source:match("^@(.*)%.lua$") .. "/"
local TYPES = { html = "text/html;charset=utf-8", css = "text/css;charset=utf-8", js = "text/javascript;charset=utf-8" }

-- Where packages install Chart.js: Debian's libjs-chart.js, npm's chart.js.
local CHART_LIBRARY = {
  "/usr/share/javascript/chart.js/chart.min.js",
  "/usr/local/lib/node_modules/chart.js/dist/chart.umd.js",
  "/usr/lib/node_modules/chart.js/dist/chart.umd.js",
}

local POLICY = {
  { "Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    .. "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" },
  { "Cross-Origin-Resource-Policy", "same-origin" },
  { "Cross-Origin-Opener-Policy", "same-origin" },
  { "Referrer-Policy", "no-referrer" },
}

local MOST_REQUESTS = 2000 -- kept, with their bodies
local TICK = 0.2      -- seconds between two looks at what has changed
local HEARTBEAT = 15  -- seconds of silence after which the stream says that it lives

local Page = {}
Page.__index = Page

local function new_secret()
  local file <close> = assert(io.open("/dev/urandom", "rb"))
  return (file:read(16):gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
end

--- Makes the page of a world.
-- @param for_all whether other machines may open it; without it, 127.0.0.1 alone
function page.new(world, for_all)
  world.journal.keeps_answers = true
  world.settings.journal_size = math.min(world.settings.journal_size, MOST_REQUESTS)
  return setmetatable({
    world = world, for_all = for_all, path = "/page/" .. new_secret() .. "/", state = { handles = {} },
  }, Page)
end

--- Whether a request line asks for the page.
function Page:owns(request_line)
  return request_line:match("^%u+ (/page/%w+/)") == self.path
end

local function ok(kind, body) return { status = 200, headers = { { "Content-Type", kind } }, body = body } end

local function json(value) return ok("application/json", cjson.encode(value)) end

local function read_file(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local bytes = file:read("a")
  file:close()
  return bytes
end

local function chart_library()
  for _, path in ipairs(CHART_LIBRARY) do
    local bytes = read_file(path)
    if bytes then return bytes end
  end
end

local function static_file(name)
  local kind = TYPES[name:match("^[%w_-]+%.(%a+)$")]
  local bytes = kind and (name == "chart.js" and chart_library() or read_file(FOLDER .. name))
  return bytes and ok(kind, bytes) or answers.empty(404)
end

local gets, posts = {}, {}

gets[""] = function() return static_file("index.html") end

-- The stream of events: writes until the browser has gone.
function gets.events(self, connection)
  local watcher, silent_since = watch.new(self.world, self.state.handles), cqueues.monotime()
  local alive = connection:write("HTTP/1.1 200 \r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
    .. "Connection: close\r\n\r\n")
  while alive do
    local changes = watcher:changes()
    if changes then
      alive = connection:write("data: " .. cjson.encode(changes) .. "\n\n")
    elseif cqueues.monotime() - silent_since > HEARTBEAT then
      alive = connection:write(": still here\n\n")
    end
    if changes or cqueues.monotime() - silent_since > HEARTBEAT then silent_since = cqueues.monotime() end
    cqueues.sleep(TICK)
  end
  return { cut = true }
end

function gets.series(self, _, query)
  local device = self.world.devices:named(parameters.text(query, "device"))
  return device and ok("application/json", watch.series(device, parameters.text(query, "key"))) or answers.empty(404)
end

function gets.request(self, _, query)
  local id = math.tointeger(tonumber(parameters.text(query, "id")))
  local entry = id and self.world.journal:find(id)
  return entry and json(watch.request(entry)) or answers.empty(404)
end

local function carry_out(self, message)
  local done, result = pcall(control.execute, self.world, self.state, message)
  return json(done and { result = result } or { error = tostring(result) })
end

function posts.command(self, _, _, body)
  local read, message = pcall(cjson.decode, body)
  if not read or type(message) ~= "table" then return answers.empty(400) end
  return carry_out(self, message)
end

-- A package's bytes are the body, what is told of it stands in the query.
function posts.package(self, _, query, body)
  local package = { data = body }
  for _, name in ipairs { "title", "version", "checksum_algorithm", "file_name" } do
    package[name] = parameters.text(query, name)
  end
  return carry_out(self, {
    command = "assign", name = parameters.text(query, "device"), kind = parameters.text(query, "kind"),
    package = package,
  })
end

-- A name in Host may be anybody's, made to point here; an address or localhost is what was printed.
local function is_address(host)
  local name = (host or ""):gsub(":%d+$", "")
  return name == "localhost" or name:find("^[%d.]+$") ~= nil or name:find("^%[[%x:.]+%]$") ~= nil
end

-- Whether a request that changes something comes from the page itself. What is no browser sends neither header.
local function is_own(headers)
  local site = headers["sec-fetch-site"]
  return (not site or site == "same-origin") and (not headers.origin or headers.origin == "http://" .. headers.host)
end

function Page:is_allowed(connection, exchange)
  if not is_address(exchange.headers.host) then return false end
  local _, peer = connection.socket:peername()
  if not self.for_all and not peer:find("^127%.") and peer ~= "::1" then return false end
  return exchange.method == "GET" or is_own(exchange.headers)
end

function Page:dispatch(connection, exchange)
  if not self:is_allowed(connection, exchange) then return answers.empty(403) end
  local name, query_text = exchange.raw_target:sub(#self.path + 1):match("^([^?]*)%??(.*)$")
  local _, query = parameters.parse(query_text)
  if exchange.method == "POST" then
    local act = posts[name]
    exchange:continue()
    local body = exchange.body:read()
    return act and body and act(self, connection, query, body) or answers.empty(404)
  elseif exchange.method ~= "GET" then
    return answers.empty(405)
  end
  local act = gets[name]
  return act and act(self, connection, query) or static_file(name)
end

--- Answers a request for the page.
function Page:answer(connection, exchange)
  local answer = self:dispatch(connection, exchange)
  if answer.headers then table.move(POLICY, 1, #POLICY, #answer.headers + 1, answer.headers) end
  return answer
end

return page
