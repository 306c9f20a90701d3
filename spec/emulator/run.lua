--- Starts the emulator from its command line and runs it to its end.
local cqueues = require "cqueues"
local signal = require "cqueues.signal"
local cqueues_socket = require "cqueues.socket"
local cjson = require "cjson"
local control = require "spec.emulator.control"
local pages = require "spec.emulator.page"
local server = require "spec.emulator.server"
local settings = require "spec.emulator.settings"
local tls = require "spec.emulator.tls"
local worlds = require "spec.emulator.world"

local TOKEN = "A1_TEST_TOKEN"
local DEFAULT_PORT = 18080

local flags = { quiet = true, control = true, parent = true, tls = true, page = true, ["page-for-all"] = true }

local function parse_arguments(arguments)
  local options, changes = {}, {}
  local index = 1
  while index <= #arguments do
    local name = arguments[index]:match("^%-%-([%w-]+)$")
    if not name then return nil, "not an option: " .. arguments[index] end
    local setting = name:gsub("-", "_")
    if flags[name] then
      options[setting] = true
    else
      index = index + 1
      local value = arguments[index]
      if not value then return nil, "option --" .. name .. " wants a value" end
      if name == "port" or name == "tls-port" or name == "tell" or name == "address" then options[setting] = value
      elseif settings.has(setting) then changes[setting] = value
      else return nil, "no such option: --" .. name end
    end
    index = index + 1
  end
  return options, changes
end

local function open_listener(options)
  if options.port then
    local listener, port = server.listen(tonumber(options.port), options.address)
    if not listener then return nil, "cannot listen on port " .. options.port end
    return listener, port
  end
  local listener, port = server.listen(DEFAULT_PORT, options.address)
  if listener then return listener, port end
  return server.listen(0, options.address)
end

-- Ends when whoever started this process has gone: the write end of its standard input goes with him.
local function watch_parent(finish)
  local input = cqueues_socket.fdopen(0)
  input:onerror(function(_, _, why) return why end)
  repeat until not input:xread(-4096)
  finish()
end

local function watch_signals(finish)
  local listener = signal.listen(signal.SIGINT, signal.SIGTERM)
  signal.block(signal.SIGINT, signal.SIGTERM)
  listener:wait()
  finish()
end

local function announce(options, lines)
  for _, line in ipairs(lines) do
    io.stdout:write(line, "\n")
    io.stdout:flush()
  end
  if options.tell then
    local teller = cqueues_socket.connect({ host = "127.0.0.1", port = tonumber(options.tell) })
    teller:write(table.concat(lines, "\n"), "\n")
    teller:flush()
    teller:close()
  end
end

-- Returns the port, the address, the authority's file, which goes when the emulator ends, and the pin of the key.
local function serve_tls(queue, world, options, at_end)
  local context, ca_file, pin = tls.new(world.settings)
  local listener, port = server.listen(tonumber(options.tls_port or 0), options.address)
  server.tls(queue, world, listener, context)
  at_end(function() os.remove(ca_file) end)
  return port, "https://127.0.0.1:" .. port, ca_file, pin
end

local function start(queue, options, changes, finish, at_end)
  local world = worlds.new(settings.new(changes))
  world.devices:create({ name = "Test Device", token = TOKEN })
  local listener, port = open_listener(options)
  if not listener then return nil, port end
  server.plain(queue, world, listener)
  local url = ("http://%s:%d"):format(options.address or "127.0.0.1", port)
  local lines, page_url = { url .. " " .. TOKEN }, nil
  if options.page or options.page_for_all then
    world.page = pages.new(world, options.page_for_all)
    page_url = url .. world.page.path
  end
  if options.control then
    local about = { url = url, port = port, token = TOKEN, page = page_url }
    about.control = control.serve(queue, world)
    if options.tls then
      about.tls_port, about.tls_url, about.ca_file, about.pin = serve_tls(queue, world, options, at_end)
    end
    lines[2] = cjson.encode(about)
  elseif page_url then
    lines[2] = "the page: " .. page_url
  end
  if not options.quiet then world.journal:print_to(io.stdout) end
  queue:wrap(watch_signals, finish)
  if options.parent then queue:wrap(watch_parent, finish) end
  queue:wrap(announce, options, lines)
  return true
end

--- Runs the emulator; returns whether it ended well.
return function(arguments)
  local options, changes = parse_arguments(arguments)
  if not options then
    io.stderr:write("emulator: ", changes, "\n")
    return false
  end
  math.randomseed()
  local queue = cqueues.new()
  local finished, endings = false, {}
  local function finish() finished = true end
  local function at_end(act) endings[#endings + 1] = act end
  local started, why = start(queue, options, changes, finish, at_end)
  if not started then
    io.stderr:write("emulator: ", why, "\n")
    return false
  end
  while not finished do
    local stepped, message = queue:step()
    if not stepped then io.stderr:write("emulator: ", tostring(message), "\n") end
  end
  for _, act in ipairs(endings) do act() end
  return true
end
