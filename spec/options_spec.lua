-- A mistake in options is told at the script's line, and by name.
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
      "http://my_host-1", "http://münchen.example", "https://h/a%20b",
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
