-- The errors that stand behind nil: kinds, statuses, words, and what they must not say.
local child = require "spec.support.child"
local emulator = require "spec.support.emulator"
local errors = require "thingsboard.error"
local socket = require "socket"
local tb = require "thingsboard"

local TOKEN <const> = "S3CR3T-T0K3N"

describe("an error", function()
  local e, dev

  setup(function()
    e = emulator.start()
    e:create_device { name = "d", token = TOKEN }
  end)
  teardown(function() e:stop() end)

  before_each(function() dev = tb.device { url = e.url, token = TOKEN } end)

  after_each(function()
    dev:close()
    e:clear_faults()
  end)

  local function error_of(by)
    local ok, err = by:request_attributes()
    assert.is_nil(ok)
    assert.is_true(errors.is(err))
    assert.equal(err.message, tostring(err))
    assert.equal("request_attributes: ", err.message:sub(1, 20))
    assert.is_nil(err.message:find "%c")
    assert.is_nil(err.message:find(TOKEN, 1, true))
    assert.is_nil(err.message:find(": Error", 1, true), err.message) -- which a libcurl without strings has to say
    assert.equal("boolean", type(err.retryable))
    return err
  end

  local function answered(status, body, headers)
    local seconds = status == 408 and 0.1 or nil -- at once it would be a proxy's, about the connection
    e:fault { how = "status", status = status, body = body, headers = headers, count = 1, seconds = seconds }
    return error_of(dev)
  end

  describe("of a status", function()
    it("tells whether the same call may succeed later", function()
      for _, status in ipairs { 400, 401, 403, 404, 405, 406, 410, 413, 414, 415, 501, 505 } do
        local err = answered(status)
        assert.same({ "http", status, false }, { err.kind, err.status, err.retryable })
        assert.equal("integer", math.type(err.status))
      end
      for _, status in ipairs { 408, 429, 500, 502, 503, 504 } do
        local err = answered(status)
        assert.same({ "http", status, true }, { err.kind, err.status, err.retryable })
      end
    end)

    it("is every one but 200", function()
      for _, status in ipairs { 201, 202, 203, 204, 206, 226, 300, 304 } do
        local err = answered(status, status ~= 204 and status ~= 304 and "{}" or nil)
        assert.same({ "answer", status, true }, { err.kind, err.status, err.retryable })
        assert.truthy(err.message:find("no answer of ThingsBoard's (status " .. status .. ")", 1, true), err.message)
      end
    end)

    local REDIRECTS <const> = "the server redirects, which is not followed; give the url that it redirects to"

    -- The words of an error between the method's name and the status.
    local function words_of(err)
      local words = err.message:match("^request_attributes: (.*) %(status " .. err.status .. "%)")
      assert.truthy(words, err.message)
      return words
    end

    it("says what it means, and what may help", function()
      for status, words in pairs {
        [400] = "the server did not understand the request", [403] = "the server forbids it",
        [401] = "the server knows no device with this token; check it, and that the device's credentials are an access "
          .. "token",
        [404] = "the server has no such path; check the url", [408] = "the server got no result in time",
        [413] = "the request is too large for the server; send less at once",
        [429] = "too many requests; send less often",
        [500] = "the server failed: it answers so for a bad value, for a rate limit, and for failures of its own",
        [502] = "the server behind the gateway does not answer",
        [503] = "the server is not available, or got no result in time",
        [504] = "the server behind the gateway did not answer in time", [418] = "the server refused",
      } do
        assert.equal(words, words_of(answered(status)))
      end
    end)

    it("says what it means where it is somebody else's", function()
      for status, words in pairs {
        [401] = "a proxy or portal on the way asks for credentials", [407] = "a proxy asks for credentials",
        [413] = "the request is too large for a proxy on the way; send less at once",
        [429] = "a proxy on the way says that there are too many requests; send less often",
        [502] = "a gateway says that the server behind it does not answer",
        [503] = "a gateway says that the server is not available",
        [504] = "a gateway says that the server behind it did not answer in time", [418] = "somebody else answered",
        [301] = REDIRECTS, [302] = REDIRECTS, [303] = REDIRECTS, [307] = REDIRECTS, [308] = REDIRECTS,
      } do
        local err = answered(status, "blocked")
        assert.same({ "answer", true }, { err.kind, err.retryable })
        assert.equal(("request_attributes: %s; check the url, and any proxy, firewall or portal on the way: this is no "
          .. "answer of ThingsBoard's (status %d): blocked"):format(words, status), err.message)
      end
    end)

    it("that no HTTP has is one as well", function()
      e:fault { how = "raw", raw = "HTTP/1.1 999 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n", count = 1 }
      assert.equal(999, error_of(dev).status)
    end)
  end)

  describe("quotes the server:", function()
    local function quotes(expected, body, headers)
      local said = answered(500, body, headers).message:match "%(status 500%)(.*)$"
      assert.equal(expected, said)
    end

    it("the message of its error object", function()
      quotes(": No static resource.", '{"message":"No static resource.","errorCode":32,"status":404,"timestamp":1}')
      quotes(": No.", '{"status":404,"message":"No.","errorCode":32,"timestamp":1750000000000}')
      quotes("", '{"message":null,"errorCode":2,"status":503,"timestamp":1750000000000}')
      quotes("", '{"message":"","errorCode":2,"status":503,"timestamp":1750000000000}')
      quotes(': say "a\\b" é', [[{"message":"say \"a\\b\" \u00e9"}]])
    end)

    it("the error of the separate transport's", function()
      quotes(": Method Not Allowed", '{"timestamp":"2026-01-01T00:00:00.000+00:00","status":405,'
        .. '"error":"Method Not Allowed","path":"/api/v1/' .. TOKEN .. '/rpc"}')
    end)

    it("a JSON string, and plain text", function()
      quotes(": Payload size exceeds the limit of 65536 bytes", '"Payload size exceeds the limit of 65536 bytes"')
      quotes(": Can't parse value: 5", "Can't parse value: 5")
      quotes(": Device was deleted!", "Device was deleted!", { ["Content-Type"] = "application/json" })
      quotes(": 5", "5")
      quotes(': {"other":1}', '{"other":1}')
      quotes(': {"message":{"a":1}}', '{"message":{"a":1}}')
      quotes("", "")
    end)

    it("no page of HTML", function()
      quotes(": a page of HTML", "<!doctype html><html><body>" .. TOKEN)
      quotes(": a page of HTML", "\r\n  <html>")
      quotes(": a page of HTML", "\xEF\xBB\xBF\n<html>")
    end)

    it("in one line, without control characters", function()
      quotes(": a b c", "a\r\nb\t\tc")
      quotes(": a?[31mred?", "a\27[31mred\7")
      quotes(": a?b?c", '{"message":"a\\u0000b\\u001bc"}')
      quotes(": a?b", "a\xC2\x9Bb") -- a control character of one byte more
      quotes(": a?b??", "a\x9Bb\xC3\xA9") -- no UTF-8
    end)

    it("in short", function()
      local long = answered(500, ("word "):rep(100000)).message
      assert.is_true(#long < 500)
      assert.equal(" ...", long:sub(-4))
      for shift = 0, 3 do -- wherever a character of four bytes would be cut
        local said = answered(500, ("x"):rep(shift) .. ("😀"):rep(200)).message
        assert.truthy(utf8.len(said))
        assert.equal(" ...", said:sub(-4))
      end
      quotes(": " .. ("x"):rep(300), ("x"):rep(300))
      quotes(": " .. ("x"):rep(299) .. " ...", ("x"):rep(301))
    end)
  end)

  it("says that an answer came compressed, which was not asked for", function()
    local gzip = "\x1f\x8b\8\0\0\0\0\0\0\3" .. ("z"):rep(20)
    for _, status in ipairs { 200, 403, 500 } do
      local err = answered(status, gzip, { ["Content-Encoding"] = "gzip" })
      assert.same({ "answer", status, true }, { err.kind, err.status, err.retryable })
      local words = "the answer is compressed, which was not asked for"
        .. (status == 200 and ": the answer is no JSON: " or "; ")
      assert.truthy(err.message:find(words, 1, true), err.message)
      assert.is_nil(err.message:find("zzz", 1, true))
    end
  end)

  it("is told to whoever listens, with a status that is the server's own", function()
    local heard = {}
    dev:listen(function(status, err) heard[#heard + 1] = { status or "none", err and err.kind or "well" } end)
    assert(dev:request_attributes())
    answered(404)
    answered(404, "blocked")
    assert.same({ { 200, "well" }, { 404, "http" }, { "none", "answer" } }, heard)
  end)

  describe("never shows a token", function()
    -- What servers and proxies say of a path that they do not know.
    local function echoes(token, spelling)
      local by <close> = tb.device { url = e.url, token = token }
      local hidden = spelling or token
      for _, body in ipairs {
        "no such path: /api/v1/" .. hidden .. "/attributes",
        hidden, hidden .. hidden, hidden .. "\n" .. hidden,
        ('{"message":"No static resource api/v1/%s/foo."}'):format((hidden:gsub('["\\]', "\\%0"))),
        ('{"message":"body {\\"token\\":\\"%s\\"}"}'):format((hidden:gsub('["\\]', "\\\\\\%0"))),
      } do
        e:fault { how = "status", status = 404, body = body, count = 1 }
        local _, err = by:send_telemetry { a = 1 }
        assert.equal(404, err.status)
        assert.is_nil(err.message:find(hidden, 1, true), err.message)
        assert.truthy(err.message:find("***", 1, true), err.message)
      end
    end

    it("that the server repeats", function() echoes(TOKEN) end)

    it("with characters that are percent-encoded in the path", function()
      for _, token in ipairs { "two words", "Gerät", "a+b&c=d", "a'b\"c<d>", "x?y#z" } do
        local escaped = token:gsub("[^%w%-._~]", function(c) return ("%%%02X"):format(c:byte()) end)
        echoes(token)
        echoes(token, escaped)
        echoes(token, (escaped:gsub("%%..", string.lower)))
      end
    end)

    it("in a true answer of the server", function()
      local by <close> = tb.device { url = e.url .. "/else", token = TOKEN }
      local _, err = by:send_telemetry { a = 1 }
      assert.equal(404, err.status)
      assert.truthy(err.message:find("else/api/v1/***/telemetry", 1, true), err.message)
    end)

    it("in a redirection, or in broken answers", function()
      for _, fault in ipairs {
        { how = "redirect", headers = { Location = "http://127.0.0.1/" .. TOKEN } },
        { how = "raw", raw = "HTTP/1.1 200 " .. TOKEN .. "\r\nContent-Length: 3\r\n\r\n{\"a" },
        { how = "raw", raw = TOKEN .. "\r\n\r\n" },
        { how = "raw", raw = "HTTP/1.1 200 \r\nContent-Length: " .. TOKEN .. "\r\n\r\n" },
        { how = "raw", raw = "HTTP/1.1 200 \r\nTransfer-Encoding: " .. TOKEN .. "\r\n\r\n" },
        { how = "raw", raw = "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n" .. TOKEN .. "\r\n" },
        { how = "status", status = 200, body = TOKEN },
        { how = "status", status = 200, body = '["' .. TOKEN },
        { how = "status", status = 200, body = '{"client":"' .. TOKEN .. '"}' },
      } do
        fault.count = 1
        e:fault(fault)
        error_of(dev)
      end
    end)

    it("in the traceback of a task", function()
      local said
      local loop = require("thingsboard.loop").default()
      local before = loop.on_error
      tb.on_error(function(_, message) said = message end)
      e:fault { how = "status", status = 404, body = TOKEN, count = 1 }
      tb.spawn(function() assert(dev:request_attributes()) end)
      tb.run()
      tb.on_error(before)
      assert.truthy(said:find("request_attributes: ", 1, true))
      assert.truthy(said:find("stack traceback", 1, true))
      assert.is_nil(said:find(TOKEN, 1, true))
    end)
  end)

  describe("without a status", function()
    -- Without a code: libcurl chooses one, and not the same in each of its releases.
    local function unanswered(kind, code, retryable, by)
      local err = error_of(by or dev)
      assert.same({ kind, code or err.code, retryable }, { err.kind, err.code, err.retryable })
      assert.is_nil(err.status)
      assert.truthy(err.message:find("(" .. err.code .. ")", 1, true))
      assert.is_nil(err.code:find "^CURLE_")
      return err
    end

    -- A port that nobody listens on.
    local function free_port()
      local listener = assert(socket.bind("127.0.0.1", 0))
      local _, port = listener:getsockname()
      listener:close()
      return port
    end

    it("says that nobody listens", function()
      local by <close> = tb.device { url = "http://127.0.0.1:" .. free_port(), token = TOKEN }
      local err = unanswered("network", "COULDNT_CONNECT", true, by)
      assert.truthy(err.message:find("check the url's host and port", 1, true))
    end)

    it("says that there is no such name", function()
      -- One that no name server is asked for: its first part is too long.
      local by <close> = tb.device { url = ("http://%s.invalid"):format(("x"):rep(64)), token = TOKEN }
      local err = unanswered("network", "COULDNT_RESOLVE_HOST", true, by)
      assert.truthy(err.message:find("check the url's host name", 1, true))
    end)

    it("says that a proxy refuses, by the name that libcurl has for it", function()
      local server <close> = child.start [[
        local socket = require "socket"
        local listener = assert(socket.bind("127.0.0.1", 0))
        print((select(2, listener:getsockname())))
        io.stdout:flush()
        listener:settimeout(20)
        for _, answers in ipairs { { "\5\xFF" }, { "\5\0", "\5\5\0\1\0\0\0\0\0\0" } } do
          local connection = assert(listener:accept())
          connection:receive(3)
          for _, answer in ipairs(answers) do connection:send(answer) end
          connection:receive "*a"
          connection:close()
        end
      ]]
      local proxy = "socks5h://127.0.0.1:" .. server:read "l"
      local by <close> = tb.device { url = e.url, token = TOKEN, proxy = proxy }
      for _ = 1, 2 do
        local err = unanswered("network", nil, true, by) -- PROXY; libcurl 7.81 says COULDNT_CONNECT
        assert.truthy(err.message:find "check the .*proxy")
      end
    end)

    it("has advice by its code", function()
      for code, advice in pairs {
        BODY_TOO_LARGE = { "answer", false, "raise max_response" }, OUT_OF_MEMORY = { "memory", true },
        HEADERS_TOO_LARGE = { "answer", false }, BAD_CONTENT_ENCODING = { "answer", false },
        WEIRD_SERVER_REPLY = { "answer", true }, CLOSED = { "closed", false }, FILE_FAILED = { "file", false },
        BAD_FUNCTION_ARGUMENT = { "answer", true, "libcurl says so when the headers of an answer make no sense" },
        SSL_CONNECT_ERROR = { "tls", true, "check that the url's port speaks TLS" },
        PEER_FAILED_VERIFICATION = { "tls", false, "give the server's authority as ca_file, and check the clock" },
        SSL_PINNEDPUBKEYNOTMATCH = { "tls", false, "the server's key is not the pinned one" },
        COULDNT_RESOLVE_HOST = { "network", true, "check the url's host name and the name servers" },
        COULDNT_RESOLVE_PROXY = { "network", true, "check the proxy's name and the name servers" },
        PROXY = { "network", true, "check the proxy, its user and its password" },
        SSL_CACERT_BADFILE = { "tls", false, "check ca_file: it must be a PEM file of certificates that can be read" },
        INTERFACE_FAILED = { "network", true, "check the option interface" },
        SSL_CERTPROBLEM = { "tls", false, "check client_cert and client_key, and client_key_password if the key has a "
          .. "pass phrase" },
        SSL_CLIENTCERT = { "tls", false, "give client_cert and client_key" }, -- one that the server demands
        COULDNT_CONNECT = { "network", true, "check the url's host and port, or the proxy's, and that the server "
          .. "runs" },
        OPERATION_TIMEDOUT = { "timeout", true }, URL_MALFORMAT = { "value", false }, TOO_LARGE = { "value", false },
        SEND_ERROR = { "network", true },
      } do
        local err = errors.of_code("m", code, "so it is", "host:80")
        assert.same({ advice[1], advice[2], code }, { err.kind, err.retryable, err.code })
        assert.equal(("m: so it is (%s)%s"):format(code, advice[3] and "; " .. advice[3] or ""), err.message)
      end
      local function advised(code, text, host) return errors.of_code("m", code, text, host).message end
      assert.equal("m: no way (COULDNT_CONNECT); check the port, and that there is an interface of the name behind the "
        .. "%: this address needs one, as in [fe80::1%eth0]", advised("COULDNT_CONNECT", "no way", "[fe80::1]:80"))
      for _, words in ipairs { "does not match target host name", "no name matches target", "CN_MISMATCH" } do
        assert.equal("m: " .. words .. " (PEER_FAILED_VERIFICATION); the certificate is not for h: check the url's "
          .. "host", advised("PEER_FAILED_VERIFICATION", words, "h"))
      end
      for _, words in ipairs { "asn1 encoding routines", "bad signature", "padding check failed",
        "provider signature failure" } do
        local err = errors.of_code("m", "SSL_CONNECT_ERROR", "error: " .. words, "h")
        assert.is_false(err.retryable)
        assert.equal("m: error: " .. words .. " (SSL_CONNECT_ERROR); the authority in ca_file has the right name, but "
          .. "did not sign the certificate", err.message)
      end
    end)

    it("says that the connection was broken", function()
      assert(dev:send_attributes { a = 1 })
      for _, fault in ipairs {
        { how = "close" }, { how = "close_after", bytes = 10 }, { how = "wrong_length" }, { how = "reset" },
        { how = "reset_after", bytes = 300 },
      } do
        e:fault(fault)
        unanswered("network", nil, true)
        e:clear_faults()
        assert(dev:request_attributes())
      end
    end)

    it("says that it took too long", function()
      local hasty <close> = tb.device { url = e.url, token = TOKEN, timeout = 0.2 }
      for _, fault in ipairs { { how = "stall" }, { how = "stall_after", bytes = 100 } } do
        fault.count = 1
        e:fault(fault)
        unanswered("timeout", "OPERATION_TIMEDOUT", true, hasty)
      end
      e:fault { how = "stall" }
      local hastiest <close> = tb.device { url = e.url, token = TOKEN, timeout = 1e-9 }
      unanswered("timeout", "OPERATION_TIMEDOUT", true, hastiest)
    end)

    it("says that a connection took too long, however long an answer may take", function()
      local silent = assert(socket.bind("127.0.0.1", 0)) -- the system takes connections for it
      local by <close> = tb.device { url = "https://127.0.0.1:" .. select(2, silent:getsockname()), token = TOKEN,
        connect_timeout = 1e-9, timeout = 60 }
      local from = socket.gettime()
      unanswered("timeout", "OPERATION_TIMEDOUT", true, by)
      assert.is_true(socket.gettime() - from < 30)
      silent:close()
    end)

    it("says that the answer makes no sense", function()
      e:fault { how = "garbage", count = 1 }
      unanswered("answer", nil, true) -- the next one may
      e:fault { how = "two_lengths", count = 1 }
      local err = error_of(dev)
      assert.is_true(err.kind == "answer" or err.kind == "network") -- as libcurl takes the first length, or none
      assert.is_true(err.retryable)
      e:fault { how = "raw", raw = "HTTP/1.1 200 \r\nContent-Length: -5\r\n\r\n", count = 1 }
      assert.equal("answer", error_of(dev).kind)
      local of_code = require "thingsboard.error".of_code -- garbage that a reset ends has the reset's words
      assert.is_true(of_code("m", "UNSUPPORTED_PROTOCOL", "Recv failure: Connection reset by peer").retryable)
      assert.is_false(of_code("m", "UNSUPPORTED_PROTOCOL", 'Protocol "https" not supported or disabled').retryable)
    end)

    it("says that the answer is too large", function()
      for _, case in ipairs {
        { "HEADERS_TOO_LARGE", how = "huge_headers" },
        { "HEADERS_TOO_LARGE", how = "huge_headers", bytes = 50000 },
        { "HEADERS_TOO_LARGE", how = "endless_headers" },
        { "HEADERS_TOO_LARGE", how = "raw", raw = "HTTP/1.1 200 " .. ("x"):rep(200000) },
        { "BODY_TOO_LARGE", how = "endless_body" },
        { "BODY_TOO_LARGE", how = "endless_chunked" },
      } do
        local code = table.remove(case, 1)
        case.count = 1
        e:fault(case)
        unanswered("answer", code, false)
      end
    end)

    it("says that a certificate is not trusted", function()
      local by <close> = tb.device { url = e.tls_url, token = TOKEN }
      local err = unanswered("tls", "PEER_FAILED_VERIFICATION", false, by)
      assert.truthy(err.message:find("give the server's authority as ca_file, and check the clock", 1, true))
    end)

    it("says that TLS came to nothing, which may be a broken connection", function()
      local server <close> = child.start [[
        local socket = require "socket"
        local listener = assert(socket.bind("127.0.0.1", 0))
        local _, port = listener:getsockname()
        print(port)
        io.stdout:flush()
        listener:settimeout(20)
        for _, answer in ipairs { "", "HTTP/1.1 400 \r\n\r\n" } do
          local connection = assert(listener:accept())
          connection:receive(5)
          connection:send(answer)
          connection:close()
        end
      ]]
      local by <close> = tb.device { url = "https://127.0.0.1:" .. server:read "l", token = TOKEN }
      unanswered("tls", "SSL_CONNECT_ERROR", true, by)
      local err = unanswered("tls", "SSL_CONNECT_ERROR", true, by)
      assert.truthy(err.message:find("check that the url's port speaks TLS", 1, true))
    end)

    it("says that the device is closed", function()
      dev:close()
      local ok, err = dev:request_attributes()
      assert.is_nil(ok)
      assert.same({ "closed", false }, { err.kind, err.retryable })
    end)
  end)

  it("reads well where assert raises it", function()
    local said = child.run(([[
      local tb = require "thingsboard"
      local dev = tb.device { url = "%s", token = "%s-WRONG" }
      local _, raised = pcall(assert, dev:send_telemetry { a = 1 })
      print(raised.kind)
      assert(dev:send_telemetry { a = 1 })
    ]]):format(e.url, TOKEN))
    local words = "^http\nlua5.4: send_telemetry: the server knows no device with this token; .* %(status 401%)\n"
    assert.truthy(said:find(words), said)
    assert.is_nil(said:find(TOKEN, 1, true))
  end)
end)
