-- A mistake in options is told at the script's line, and by name.
local scratch = require "spec.support.scratch"
local tb = require "thingsboard"

describe("options", function()
  local dev

  before_each(function() dev = tb.device { url = "http://127.0.0.1:9", token = "T" } end)
  after_each(function() dev:close() end)

  local function raises(message, body)
    local ok, raised = pcall(body)
    assert.is_false(ok)
    assert.truthy(raised:find("^spec/options_spec%.lua:%d+: "), raised)
    assert.truthy(raised:find(message, 1, true), raised)
  end

  it("that are wrong are named", function()
    raises("device: option 'token' is missing", function() tb.device { url = "http://h" } end)
    raises("device: unknown option 'colour'", function() tb.device { url = "http://h", token = "T", colour = 1 } end)
    raises("device: option 'client_cert' is missing", function()
      tb.device { url = "http://h", token = "T", client_key = "k" }
    end)
    raises("provision: option 'secret' is missing", function() tb.provision { url = "http://h", key = "k" } end)
    raises("provision: option 'proxy' must be", function()
      tb.provision { url = "http://h", key = "k", secret = "s", proxy = "ftp://h" }
    end)
    raises("claim: option 'duration_ms'", function() dev:claim { duration_ms = 1.5 } end)
    raises("rpc_requests: option 'period'", function() dev:rpc_requests { period = 0 } end)
    raises("request_attributes: unknown option", function() dev:request_attributes { "a" } end)
  end)

  it("that are wrong are told in full", function()
    local directory = scratch.new()
    local box <close> = assert(dev:outbox { path = directory .. "/box" })
    local _ <close> = dev:rpc_requests()
    local closed = tb.device { url = "http://h", token = "T" }
    closed:close()
    local function device(more)
      local given = { url = "http://h", token = "T" }
      for name, value in pairs(more) do given[name] = value end
      tb.device(given)
    end
    local function package(more)
      local given = { title = "t", version = "1" }
      for name, value in pairs(more) do given[name] = value end
      dev:firmware(given)
    end
    local function updates(more)
      local given = { kind = "firmware", current = { title = "t", version = "1" }, directory = "/", apply = print }
      for name, value in pairs(more) do given[name] = value end
      dev:updates(given)
    end
    local function outbox(more)
      more.path = more.path or directory .. "/other"
      dev:outbox(more)
    end
    local many = {}
    for n = 1, 2000 do many[n] = "key" .. n end
    local handlers = { wrong = 5 } -- seldom the first of those that are looked at
    for n = 1, 20 do handlers["right" .. n] = print end
    for _, case in ipairs {
      { "device: a table of options expected, got number", tb.device, 5 },
      { "device: the token cannot be a path", device, { token = "." } },
      { "device: the token cannot be a path", device, { token = ".." } },
      { "device: the token contains '/', which no URL of the server can carry", device, { token = "a/b" } },
      { "device: the token contains a control character (a line's end?), which no URL of the server can carry", device,
        { token = "a\n" } },
      { "device: option 'token' must not stand beside 'token_file'", device, { token_file = "/f" } },
      { "device: option 'token' is missing, or 'token_file'", tb.device, { url = "http://h" } },
      { "device: option 'url' must be like https://host or http://host:port, without user, query or fragment", device,
        { url = "ftp://h" } },
      { "device: option 'client_cert' is missing beside 'client_key'", device, { client_key = "/k" } },
      { "device: option 'client_cert' is missing beside 'client_key_password'", device, { client_key_password = "p" } },
      { "device: option 'proxy' must be like http://host:port or socks5h://host:port", device, { proxy = "ftp://h" } },
      { "device: option 'timeout' must be a number above 0 and below 2e6", device, { timeout = 0 } },
      { "device: option 'timeout' must be a number above 0 and below 2e6", device, { timeout = 2e6 } },
      { "device: option 'max_response' must be a positive integer", device, { max_response = 0 } },
      { "device: option 'user_agent' must be a non-empty string without control characters", device,
        { user_agent = "a\n" } },
      { "a device expected: call its methods with a colon", dev.close },
      { "attribute_updates: a list of keys expected, got number", dev.attribute_updates, dev, 5 },
      { "attribute_updates: key 2 must be a non-empty string", dev.attribute_updates, dev, { "a", "" } },
      { "attribute_updates: key 'a,b' holds a comma, and the server would take it for two keys", dev.attribute_updates,
        dev, { "a,b" } },
      { "attribute_updates: too many keys for one request: ask in parts", dev.attribute_updates, dev, many },
      { "serve_rpc: a table of handlers expected, got number", dev.serve_rpc, dev, 5 },
      { "serve_rpc: handler 'm' must be a function, got number", dev.serve_rpc, dev, { m = 5 } },
      { "serve_rpc: handler 'wrong' must be a function, got number", dev.serve_rpc, dev, handlers },
      { "rpc_requests: the device's requests are being iterated over already", dev.rpc_requests, dev },
      { "serve_rpc: the device's requests are being iterated over already", dev.serve_rpc, dev, {} },
      { "serve_rpc: a table of options expected, got number", dev.serve_rpc, dev, {}, 5 },
      { "serve_rpc: option 'period' must be a number above 0 and below 2e6", dev.serve_rpc, dev, {}, { period = 0 } },
      { "a device expected: call its methods with a colon", dev.serve_rpc, {}, {} },
      { "a device expected: call its methods with a colon", dev.reply_rpc, {}, 1 },
      { "a device expected: call its methods with a colon", dev.send_rpc, {}, "m" },
      { "a device expected: call its methods with a colon", dev.send_telemetry, {}, { a = 1 } },
      { "send_rpc: method must be a non-empty string, got string", dev.send_rpc, dev, "" },
      { "reply_rpc: id must be an integer, got string", dev.reply_rpc, dev, "1" },
      { "listen: listener must be a function, got nil", dev.listen, dev },
      { "send_telemetry: a table or JSON text expected, got number", dev.send_telemetry, dev, 5 },
      { "send_attributes: a table or JSON text expected, got number", dev.send_attributes, dev, 5 },
      { "clock: known must be a boolean, or a file's path from the root on", tb.clock, "relative" },
      { "sleep: seconds must be a number, not negative", tb.sleep, -1 },
      { "spawn: body must be a function, got nil", tb.spawn },
      { "on_signal: there is no signal NONE", tb.on_signal, "NONE", print },
      { "max_connections: count must be below 2^31", tb.max_connections, 1 << 31 },
      { "max_connections: count must be a positive integer, got number", tb.max_connections, 0 },
      { "derive_token: secret must have at least 16 bytes", tb.derive_token, "id", ("s"):rep(15) },
      { "provision: option 'store' is missing beside 'anew'", tb.provision,
        { url = "http://h", key = "k", secret = "s", anew = true } },
      { "firmware: option 'checksum_algorithm' is missing beside 'checksum'", package, { checksum = "00" } },
      { "firmware: option 'checksum_algorithm': one of MD5, SHA256, SHA384, SHA512, CRC32, MURMUR3_32, MURMUR3_128 "
        .. "expected", package, { checksum = "00", checksum_algorithm = "SHA1" } },
      { "firmware: option 'checksum' is missing beside 'checksum_algorithm'", package, { checksum_algorithm = "MD5" } },
      { "firmware: option 'size' is missing beside 'chunk_size': only by it a short chunk is told from the last",
        package, { chunk_size = 1 } },
      { "firmware: the server cuts no package of 2 GiB or more into chunks, nor into such", package,
        { chunk_size = 1, size = 1 << 31 } },
      { "firmware: the server cuts no package of 2 GiB or more into chunks, nor into such", package,
        { chunk_size = 1 << 31, size = 1 } },
      { "firmware: option 'chunk_size' is above the 4194304 bytes of max_response", package,
        { chunk_size = (4 << 20) + 1, size = 1 } },
      { "updates: option 'current' must have a string 'title'", updates, { current = { version = "1" } } },
      { "updates: option 'current' must have a string 'version'", updates, { current = { title = "t" } } },
      { "updates: option 'chunk_size' is above the 4194304 bytes of the device's max_response", updates,
        { chunk_size = (4 << 20) + 1 } },
      { "updates: url_options: unknown option 'token'", updates, { url_options = { token = "T" } } },
      { "outbox: option 'messages' must be like \"20:1,600:60\", amounts and seconds", outbox, { messages = "5" } },
      { "outbox: option 'points' must be like \"20:1,600:60\", amounts and seconds", outbox, { points = "0:1" } },
      { "outbox: option 'confirm_key' holds a comma, and the server would take it for two keys", outbox,
        { confirm_key = "a,b" } },
      { "outbox: option 'max_age' must be a number of seconds above 0 and below 1e12", outbox, { max_age = 0 } },
      { "outbox: option 'max_age' must be a number of seconds above 0 and below 1e12", outbox, { max_age = 1e12 } },
      { "outbox: option 'on_trouble' must be 'error' or 'memory'", outbox, { on_trouble = "error|memory" } },
      { "outbox: this file is open for this device already; devices that share one need a 'name' each", outbox,
        { path = directory .. "/box" } },
      { "an outbox expected: call its methods with a colon", box.sync, {} },
      { "attributes: a table expected, got number", box.attributes, box, 5 },
      { "drain: option 'deadline' must be a number above 0 and below 2e6", box.drain, box, { deadline = 0 } },
    } do
      local ok, raised = pcall(function()
        case[2](table.unpack(case, 3))
        return nil -- or it would be no caller, whose line the message names
      end)
      assert.is_false(ok, case[1])
      assert.equal("options_spec.lua: " .. case[1], (raised:gsub("^.*(options_spec%.lua):%d+", "%1")))
    end
    for _, case in ipairs {
      { "send_telemetry: nothing to send: the JSON text is empty", dev.send_telemetry, dev, "{}" },
      { "send_telemetry: the JSON text must be an object", dev.send_telemetry, dev, "5" },
      { "send_attributes: the JSON text must be an object", dev.send_attributes, dev, '[{"a":1}]' },
      { "outbox: the device is closed", closed.outbox, closed, { path = directory .. "/other" } },
    } do
      local ok, err = case[2](table.unpack(case, 3))
      assert.is_nil(ok)
      assert.equal(case[1], err.message)
    end
    assert.same({ "thingsboard.device (open)", "thingsboard.device (closed)" }, { tostring(dev), tostring(closed) })
    box:close()
    for _, name in ipairs { "put", "attributes", "sync", "drain", "run", "rejected" } do
      local ok, err = box[name](box, {})
      assert.same({ nil, "closed", name .. ": the outbox is closed" }, { ok, err.kind, err.message })
    end
    scratch.remove(directory)
  end)

  it("of updates are named, too", function()
    local function with(more)
      local given = { kind = "firmware", current = { title = "t", version = "1" }, directory = "/", apply = print }
      for name, value in pairs(more) do given[name] = value end
      return function() dev:updates(given) end
    end
    raises("updates: option 'directory' must be", with { directory = "" })
    raises("updates: option 'kind' must be", with { kind = "hardware" })
    raises("updates: option 'current' must have", with { current = { title = "t" } })
    raises("updates: option 'chunk_size' is above", with { chunk_size = 1 << 40 })
    raises("updates: option 'unverified' must be 'https'", with { unverified = "yes" })
    raises("updates: url_options: option 'proxy' must be false or a non-empty string without control characters",
      with { url_options = { proxy = "" } })
  end)

  local bad = {
    "h", "ftp://h", "http://", "http:///p", "http://u@h", "http://u:p@h", "http://h?q", "http://h/p#f", "http://h:0",
    "http://h:65536", "http://h:x", "http://h:80:80", "http://h h", "http://h\\p", "http://h\"", "http://h'",
    "http://h;", "http://h$x", "http://{h}", "http://h%00", "http://h*", "http://[::1", "http://[::1]:", "http://[x]",
    "http://[fe80::1%]", "http://[fe80::1%a b]", "http://[fe80::1%a/b]", "http://[fe80::1%br$]", "http://[x%eth0]",
    "http://::1", "http://" .. ("h"):rep(256),
  }

  for _, make in ipairs { "device", "provision" } do
    it("of " .. make .. " take no url that libcurl would not", function()
      for _, url in ipairs(bad) do
        raises(make .. ": option 'url' must be", function()
          if make == "device" then tb.device { url = url, token = "T" } end
          tb.provision { url = url, key = "k", secret = "s" }
        end)
      end
    end)
  end

  it("take names, addresses, ports and paths for a url", function()
    for _, url in ipairs {
      "http://h", "HTTPS://H.example:443/", "http://127.0.0.1:9/a/b//", "http://[::1]:9", "https://[fe80::1%25eth0]/x",
      "http://[fe80::1%br-lan]:8080", "http://[fe80::1%eth0.1]", "http://[fe80::1%wlan0-1]",
      "http://[fe80::1%25br-lan]:80",
      "http://my_host-1", "http://münchen.example", "https://h/a%20b", "http://h:1", "http://h:65535",
      "http://" .. ("h"):rep(255),
    } do
      tb.device({ url = url, token = "T" }):close()
    end
  end)
end)

describe("the guide shows every option, with its default, of", function()
  local options = require "thingsboard.options"
  local manual = require "spec.support.manual"

  for title, list in pairs {
    ["tb.device"] = options.device, ["tb.provision"] = options.credentials,
    ["dev:request_attributes"] = options.request_attributes,
    ["dev:attribute_updates"] = options.attribute_updates,
    ["dev:rpc_requests and dev:serve_rpc"] = options.rpc_requests, ["dev:claim"] = options.claim,
    ["dev:firmware and dev:software"] = options.package, ["dev:updates"] = options.updates,
    ["thingsboard service"] = require "thingsboard.service.options",
    ["dev:outbox"] = require "thingsboard.outbox.options",
  } do
    it(title, function()
      local rows = manual.rows("options", "## " .. title)
      assert.equal(#list, #rows)
      for number, option in ipairs(list) do
        local name, default, doc = rows[number]:match "^| `([%w_]+)` | [^|]+ | ([^|]+) | (.+) |$"
        assert.equal(option.name, name)
        assert.equal(option.doc, doc)
        local plain = default:gsub("[`\",]", ""):gsub("^(%d+) ([KM])iB$", function(number_of, unit)
          return ("%d"):format(number_of * (unit == "M" and 1 << 20 or 1 << 10))
        end)
        assert.equal(option.type:find "!$" and "required" or option.default == nil and "none"
          or tostring(option.default), plain, name)
      end
    end)
  end
end)
