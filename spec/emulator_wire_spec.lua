-- What Tomcat does with a request before any application sees it, where no recording tells.
local emulator = require "spec.support.emulator"
local socket = require "socket"

describe("the emulator, as Tomcat,", function()
  local e

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)

  -- Sends bytes; returns the status, the head and the body of the first answer.
  local function send(bytes)
    local connection <close> = setmetatable({}, { __close = function(self) self.socket:close() end })
    connection.socket = assert(socket.connect("127.0.0.1", e.port))
    connection.socket:settimeout(5)
    connection.socket:send((bytes:gsub("{T}", e.token)))
    local head = {}
    for line in function() return connection.socket:receive("*l") end do
      if line == "" then break end
      head[#head + 1] = line
    end
    head = table.concat(head, "\n")
    local length = tonumber(head:match("Content%-Length: (%d+)"))
    local body = ""
    if length and length > 0 then
      body = connection.socket:receive(length)
    elseif not length then
      body = connection.socket:receive("*l") and connection.socket:receive("*l") -- the one chunk
    end
    return tonumber(head:match("^HTTP/1.1 (%d+)")), head, body
  end

  local function post(lines, body)
    return send("POST /api/v1/{T}/telemetry HTTP/1.1\r\n" .. lines .. "\r\n\r\n" .. (body or '{"a":1}'))
  end

  it("takes hosts as names, addresses and nothing, with and without a port", function()
    for _, host in ipairs { "x", "x:8080", "x:", "", "a-b.c", "127.0.0.1:1", "[::1]", "[::1]:8080" } do
      assert.equal(200, (post("Host: " .. host .. "\r\nContent-Length: 7")), host)
    end
    for _, host in ipairs { "a b", "a/b", "a:b", "[::1", "a?b", "a@b" } do
      local status, head, body = post("Host: " .. host .. "\r\nContent-Length: 7")
      assert.equal(400, status, host)
      assert.truthy(head:find("Connection: close", 1, true))
      assert.truthy(body:find("^<!doctype html>"))
    end
  end)

  it("refuses a whole URL that names another host than the header", function()
    local request = "POST http://%s/api/v1/{T}/telemetry HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{\"a\":1}"
    assert.equal(200, (send(request:format("x"))))
    assert.equal(400, (send(request:format("y"))))
  end)

  it("takes lengths of 64 bits for lengths, and no larger ones", function()
    local status, _, body = post "Host: x\r\nContent-Length: 9223372036854775807"
    assert.same({ 413, '"Payload size exceeds the limit of 16777216 bytes"' }, { status, body })
    for _, length in ipairs { "9223372036854775808", "-1", "+7", "7, 7", "0x7", "" } do
      assert.equal(400, (post("Host: x\r\nContent-Length: " .. length)), length)
    end
    assert.equal(400, (post "Host: x\r\nContent-Length: 7\r\nContent-Length: 7"))
  end)

  it("answers OPTIONS * itself", function()
    local status, head = send("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    assert.equal(200, status)
    assert.truthy(head:find("Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS", 1, true))
    assert.is_nil(head:find("X-Frame-Options", 1, true))
    assert.equal(400, (send("GET * HTTP/1.1\r\nHost: x\r\n\r\n")))
  end)

  it("reads eight digits of a chunk's size, not more", function()
    assert.equal(200, (post("Host: x\r\nTransfer-Encoding: chunked", "00000007\r\n{\"a\":1}\r\n0\r\n\r\n")))
    local status, _, body = post("Host: x\r\nTransfer-Encoding: chunked", "FFFFFFFFF\r\n{\"a\":1}\r\n0\r\n\r\n")
    assert.equal(400, status)
    assert.truthy(body:find("BadRequestException: Invalid chunk header", 1, true))
  end)
end)
