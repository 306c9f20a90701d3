-- A token that is kept in a file: read when the device is made, and again when the server does not know it.
local emulator = require "spec.support.emulator"
local scratch = require "spec.support.scratch"
local tb = require "thingsboard"
local until_true = require "spec.support.until_true"

describe("token_file", function()
  local e, directory, path

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)
  before_each(function()
    directory = scratch.new()
    path = directory .. "/token"
  end)
  after_each(function() scratch.remove(directory) end)

  local function write(text, mode)
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
    os.execute(("chmod %s '%s'"):format(mode or "600", path))
  end

  it("is read, without the line's end", function()
    write("  " .. e.token .. "\n")
    local dev <close> = tb.device { url = e.url, token_file = path }
    assert(dev:send_telemetry { from_file = 1 })
  end)

  it("is refused when others can read or write it, or its group can write it", function()
    local OTHERS <const> = "holds a secret that every user can read or write: chmod o= it, and use another secret"
    local GROUP <const> = "holds a secret that its group can write: chmod g-w it"
    for mode, refusal in pairs {
      ["604"] = OTHERS, ["602"] = OTHERS, ["601"] = OTHERS, ["622"] = OTHERS, ["620"] = GROUP, ["640"] = false,
      ["400"] = false,
    } do
      write(e.token, mode)
      local dev, err = tb.device { url = e.url, token_file = path }
      assert.equal(refusal, not dev and err.message:gsub("^device: " .. path:gsub("%p", "%%%0") .. " ", ""), mode)
      if dev then dev:close() else assert.same({ "file", false }, { err.kind, err.retryable }) end
    end
  end)

  it("that is missing, empty or no token is an error that names it", function()
    local _, err = tb.device { url = e.url, token_file = path }
    assert.same({ "file", true }, { err.kind, err.retryable })
    assert.truthy(err.message:find(path, 1, true))
    write " \n"
    _, err = tb.device { url = e.url, token_file = path }
    assert.same({ "file", true, ("device: %s is empty"):format(path) }, { err.kind, err.retryable, err.message })
    _, err = tb.device { url = e.url, token_file = directory }
    assert.equal(("device: %s is a directory"):format(directory), err.message)
    for _, kept in ipairs { "{}", '{"token":true}', '{"token":5,"credentials_type":"ACCESS_TOKEN"}', '{"token":' } do
      write(kept)
      _, err = tb.device { url = e.url, token_file = path }
      assert.same({ "file", "device: there is no access token in " .. path }, { err.kind, err.message })
    end
    write "two/parts"
    _, err = tb.device { url = e.url, token_file = path }
    assert.equal("file", err.kind)
    assert.equal("device: " .. path .. ": the token contains '/', which no URL of the server can carry", err.message)
  end)

  it("that cannot be opened is an error that may pass", function()
    local listener = require "socket.unix".stream()
    assert(listener:bind(path))
    assert(os.execute("chmod 600 " .. path))
    local dev, err = tb.device { url = e.url, token_file = path }
    listener:close()
    assert.same({ nil, "file", true }, { dev, err.kind, err.retryable })
    assert.matches("^device: [^\n]*: No such device or address$", err.message)
  end)

  it("stands alone", function()
    assert.error_matches(function() tb.device { url = e.url, token = "T", token_file = path } end,
      "'token' must not stand beside 'token_file'")
    assert.error_matches(function() tb.device { url = e.url } end, "'token' is missing")
  end)

  it("is read again after a 401: calls go on with the new token, the old one is in no error", function()
    local token = e:create_device {}
    write(token)
    local dev <close> = tb.device { url = e.url, token_file = path }
    assert(dev:send_telemetry { n = 1 })
    e:change_token(token, "ANOTHER_TOKEN")
    local ok, err = dev:send_telemetry { n = 2 }
    assert.is_nil(ok)
    assert.same({ 401, false }, { err.status, err.retryable })
    write "ANOTHER_TOKEN"
    assert(dev:send_telemetry { n = 3 })
    assert.equal(2, #e:telemetry "ANOTHER_TOKEN")
    e:change_token("ANOTHER_TOKEN", token)
    write "ONE_MORE_TOKEN" -- unknown as well: it is tried once
    e:clear()
    ok, err = dev:send_telemetry { n = 4 }
    assert.is_nil(ok)
    assert.same({ 401, false }, { err.status, err.retryable })
    assert.equal(2, #e:requests())
    assert.falsy(tostring(err):find "TOKEN")
  end)

  it("is read again for all calls that are under way, and those of both tokens end with the device", function()
    local token = e:create_device {}
    write(token)
    local dev <close> = tb.device { url = e.url, token_file = path, proxy = e.url:gsub("//", "//some:S3CRET@") }
    e:fault { path = "/attributes", how = "stall", count = 1 }
    local ends = {}
    local stalled = tb.spawn(function() return select(2, dev:request_attributes()) end)
    e:clear()
    until_true(function() return e:requests()[1] end)
    e:change_token(token, "NEXT_TOKEN")
    write "NEXT_TOKEN"
    for n = 1, 2 do tb.spawn(function() ends[n] = dev:send_telemetry { n = n } or false end) end
    until_true(function() return #ends == 2 end)
    e:fault { how = "status", status = 407, body = "some:S3CRET " .. token, count = 1 }
    assert.matches("%(status 407%): %*%*%* %*%*%*$", select(2, dev:send_telemetry { n = 3 }).message)
    dev:close()
    assert.equal("closed", select(2, stalled:join()).kind)
    assert.same({ true, true }, ends)
  end)

  it("is read again by polls: they go on", function()
    local token = e:create_device {}
    write(token)
    local dev <close> = tb.device { url = e.url, token_file = path }
    local heard = {}
    local server = tb.spawn(function()
      dev:serve_rpc({ first = function() heard.first = true end, second = function() heard.second = true end },
        { period = 1 })
    end)
    local values
    local watching = tb.spawn(function()
      for told in dev:attribute_updates({ "a" }, { period = 1 }) do values = told.a or values end
    end)
    e:set_shared(token, '{"a":1}')
    e:rpc(token, { method = "first", params = "{}" })
    until_true(function() return heard.first and values == 1 end, 10)
    write "RENEWED_TOKEN"
    e:change_token(token, "RENEWED_TOKEN")
    e:set_shared("RENEWED_TOKEN", '{"a":2}')
    until_true(function() return values == 2 end, 10)
    e:rpc("RENEWED_TOKEN", { method = "second", params = "{}" })
    until_true(function() return heard.second end, 10)
    assert.is_false(server:done() or watching:done())
    server:cancel()
    watching:cancel()
  end)
end)
