-- Whose answer it is: the server's own are all recognized, and nobody else's is taken for one.
local answer = require "thingsboard.http.answer"
local cjson = require "cjson"
local emulator = require "spec.support.emulator"
local scratch = require "spec.support.scratch"
local tb = require "thingsboard"

local any_message = answer.message(function() return true end)

-- What the endpoint of a recorded request may answer.
local function expected_of(request)
  local path = request.target:match "^/api/v1/{%a}/?([^?]*)" or request.target
  if path:find "^firmware" or path:find "^software" then return answer.package() end
  if request.target:find "^/api/v1/provision" then return answer.provisioning end
  if request.method == "POST" then return path == "rpc" and answer.json or answer.nothing end
  if path:find "updates" or path:find "^rpc" then return any_message end
  return answer.attributes
end

local function is_own(expected, status, body, challenged)
  if status == 200 then return expected.read(body) ~= nil end
  return answer.is_own(expected, status, body, challenged)
end

-- What stands between a device and its server says things like these.
local pages = {
  "<html><head><title>Sign in</title></head><body>Accept the terms of this hotspot</body></html>",
  "\xEF\xBB\xBF<!DOCTYPE html>\r\n<html><body>Login</body></html>",
  "\n\n  <HTML><meta http-equiv='refresh' content='0;url=http://10.0.0.1/login'></HTML>",
  '<?xml version="1.0"?><WISPAccessGatewayParam><Redirect><MessageType>100</MessageType></Redirect>'
    .. "</WISPAccessGatewayParam>",
  "Your prepaid volume is used up. Please top up.",
  "default backend - 404", "404 page not found\n", "Not Found", "Forbidden", "Unauthorized", "RBAC: access denied",
  "upstream connect error or disconnect/reset before headers", "no healthy upstream", "Service Unavailable",
  "error code: 1020", "OK", "ok\n", " ", "\n", "\xEF\xBB\xBF", "0", "true", "null", "[]", "{}", '""', "[{}]",
  '{"ok":true}', '{"success":true,"data":{"login":"http://10.0.0.1"}}',
  '{"message":"no Route matched with those values"}',
  '{"message":"Unauthorized","request_id":"5f1b"}', '{"error":"access_denied"}', '{"code":404,"message":"not found"}',
  '{"status":404,"error":"Not Found"}', '{"message":"x","errorCode":2,"status":599,"timestamp":1}',
  '{"message":"x","errorCode":"2","status":404,"timestamp":1}',
  "<script>window.location='http://portal.example/'</script>", "window.location.replace('/login')",
  "<html>\r\n<head><title>%d Something</title></head>\r\n<body>\r\n<center><h1>%d</h1></center>\r\n<hr><center>nginx"
    .. "</center>\r\n</body>\r\n</html>\r\n",
  "<html><body><h1>%d Not here</h1>\nNo server is available to handle this request.\n</body></html>\n",
  "<html><head><title>%d</title></head><body><center><h1>%d</h1></center></body></html>",
  "<!doctype html><html lang=\"en\"><head><title>HTTP Status %d</title></head><body>firewall</body></html>",
  "<!doctype html><html lang=\"en\"><head><title>HTTP Status %d – No</title></head><body>firewall</body></html>",
  "Web filter violation: this address is blocked by your administrator",
}

describe("whose answer it is:", function()
  it("every recorded one is the server's", function()
    local count = 0
    for line in io.lines "spec/data/requests-4.3.1.3.jsonl" do
      local request = cjson.decode(line)
      local given = request.answer
      local is_ours = request.method ~= "HEAD" and not request.headers.Accept
      if type(given) == "table" and type(given.body) == "string" and is_ours then
        count = count + 1
        assert.is_true(is_own(expected_of(request), math.tointeger(given.status), given.body, false), line:sub(1, 300))
      end
    end
    assert.is_true(count > 120, "answers: " .. count)
  end)

  it("so is what is known of it, but was not recorded", function()
    for _, case in ipairs {
      { 403, "Device was deleted!" }, { 500, "Rate limits reached! Please try again later" },
      { 413, '"Payload size exceeds the limit of 65536 bytes"' },
      { 500, "String value length [20] for key [a] is greater than maximum allowed [10]" },
      { 405, '{"timestamp":"2026-11-27T07:00:00.000+00:00","status":405,"error":"Method Not Allowed",'
        .. '"path":"/api/v1/T/telemetry"}' },
    } do
      assert.is_true(is_own(answer.nothing, case[1], case[2], false), case[2])
    end
    for _, status in ipairs { 401, 408, 429, 500, 502, 503, 504 } do
      assert.is_true(is_own(answer.nothing, status, "", false), status .. " without a body")
      assert.is_true(is_own(answer.package(), status, "", false), status .. " without a body, of a package")
    end
    assert.is_true(is_own(answer.package(), 400, "", false))
    assert.is_true(is_own(answer.package(), 404, "", false))
    local tomcats <const> = "<!doctype html><html lang=\"en\"><head><title>HTTP Status %d – No</title>"
      .. "<style type=\"text/css\">body {font-family:Tahoma,Arial,sans-serif;}</style></head></html>"
    for _, status in ipairs { 400, 413, 414, 417, 500, 501, 505 } do
      assert.is_true(is_own(answer.nothing, status, tomcats:format(status), false), status .. " of Tomcat")
    end
    assert.is_false(is_own(answer.nothing, 403, tomcats:format(403), false))
  end)

  it("nobody else's is, whatever its status", function()
    for _, status in ipairs { 200, 201, 204, 302, 307, 400, 401, 403, 404, 405, 407, 408, 410, 413, 429, 451, 500, 502,
      503, 504, 511, 520, 530 } do
      for _, page in ipairs(pages) do
        assert.is_false(is_own(answer.nothing, status, (page:gsub("%%d", status)), false), status .. ": " .. page)
      end
    end
    for _, status in ipairs { 201, 204, 302, 400, 403, 404, 405, 406, 410, 413, 451, 511 } do
      assert.is_false(is_own(answer.nothing, status, "", false), status .. " without a body")
    end
    assert.is_false(is_own(answer.nothing, 401, "", true))
    assert.is_false(is_own(answer.nothing, 403, "Device was deleted!", true))
  end)

  it("an error object lacks nothing, and has nothing of another type", function()
    for _, object in ipairs {
      { message = "x", errorCode = 2, status = 404, timestamp = 1 },
      { timestamp = "2026-11-27T07:00:00.000+00:00", status = 404, error = "Not Found", path = "/api/v1/T/telemetry" },
    } do
      assert.is_true(is_own(answer.nothing, 404, cjson.encode(object), false))
      for key, value in pairs(object) do
        for _, other in ipairs { false, {}, type(value) == "string" and 5 or "5" } do
          object[key] = other
          local text = cjson.encode(object)
          assert.is_false(is_own(answer.nothing, 404, text, false), text)
        end
        object[key] = nil
        local text = cjson.encode(object)
        assert.is_false(is_own(answer.nothing, 404, text, false), text)
        object[key] = value
      end
    end
  end)

  it("provisioning has a reason where it has no credentials, but in its older form", function()
    local read = answer.provisioning.read
    for _, body in ipairs {
      '{"errorMsg":"x","status":"FAILURE"}', '{"errorMsg":"x","status":"NOT_FOUND"}',
      '{"provisionDeviceStatus":"FAILURE"}', '{"credentialsType":"LWM2M_CREDENTIALS","status":"SUCCESS"}',
    } do
      assert.is_table(read(body), body)
    end
    for _, body in ipairs {
      '{"status":"FAILURE"}', '{"status":"NOT_FOUND","errorMsg":null}', '{"status":"SUCCESS","errorMsg":"x"}',
      '{"provisionDeviceStatus":"SUCCESS"}', '{"status":"ok"}', '{"status":["SUCCESS"]}', '"FAILURE"',
    } do
      assert.is_nil((read(body)), body)
    end
  end)

  it("attributes have two groups, and no others", function()
    assert.same({ client = {}, shared = { a = 1 } }, answer.attributes.read '{"shared":{"a":1}}')
    assert.same({ client = {}, shared = {} }, answer.attributes.read "{}")
    for _, body in ipairs { '{"login":"http://10.0.0.1"}', '{"shared":{},"error":1}', "[]", "5", "", "null" } do
      assert.is_nil((answer.attributes.read(body)), body)
    end
  end)

  it("why it is not the server's is said", function()
    local NO_ATTRIBUTES <const>, NO_JSON <const> = "the answer holds no attributes", "the answer is no JSON: "
    local NO_CREDENTIALS <const> = "the answer has no status of provisioning, or no credentials"
    local NO_MESSAGE <const> = "the answer is no message of the server's"
    local message = answer.message(function(value) return value.a ~= nil end)
    for _, case in ipairs {
      { answer.nothing, "x", "the answer of a post has a body, which ThingsBoard's never has" },
      { answer.refusal, "", "the answer of an empty post is a 200, which ThingsBoard's never is" },
      { answer.json, "x", NO_JSON, "..." }, { answer.attributes, "x", NO_JSON, "..." },
      { answer.attributes, "[]", NO_ATTRIBUTES }, { answer.attributes, '{"other":{}}', NO_ATTRIBUTES },
      { answer.attributes, '{"client":5}', NO_ATTRIBUTES }, { answer.provisioning, "x", NO_JSON, "..." },
      { answer.provisioning, '{"status":"SUCCESS"}', NO_CREDENTIALS }, { answer.provisioning, "[]", NO_CREDENTIALS },
      { answer.provisioning, '{"status":"OTHER","errorMsg":"x"}', NO_CREDENTIALS },
      { message, "x", NO_MESSAGE .. ": ", "..." }, { message, '{"b":1}', NO_MESSAGE }, { message, "[1]", NO_MESSAGE },
      { answer.package(), "x", "the answer is not marked as a package, as ThingsBoard's packages are" },
    } do
      local value, reason = case[1].read(case[2], { is_attachment = function() return false end })
      assert.is_nil(value)
      if case[4] then
        assert.is_true(#reason > #case[3])
        reason = reason:sub(1, #case[3])
      end
      assert.equal(case[3], reason)
    end
    assert.is_true(answer.nothing.read "")
    assert.same({ a = 1 }, message.read '{"a":1}')
    assert.equal(5, answer.json.read "5")
    local marked = { is_attachment = function() return true end }
    assert.equal("x", answer.package().read("x", marked))
    assert.is_true(answer.package().attachment)
    for _, status in ipairs { 301, 302, 303, 307, 308 } do
      assert.equal("the package's server redirects, which is not followed: as the package's url, give the url that it "
        .. "redirects to", answer.file.meanings[status])
    end
    assert.equal("the package's server asks for credentials, and none are sent there: serve it without",
      answer.file.meanings[401])
    assert.is_true(answer.is_own(answer.file, 500, "anything", true))
    assert.is_false(is_own(answer.nothing, 405, '{"timestamp":"2026-11-27T07:00:00.000+00:00","status":405,'
      .. '"error":"Method Not Allowed","path":"/api/v2/T/telemetry"}', false))
  end)

  describe("over a wire,", function()
    local e, dev

    setup(function() e = emulator.start() end)
    teardown(function() e:stop() end)
    before_each(function() dev = tb.device { url = e.url, token = e.token } end)
    after_each(function()
      dev:close()
      e:clear_faults()
      e:clear()
    end)

    it("a page is an error that may pass, of whatever is called", function()
      for _, status in ipairs { 200, 400, 401, 403, 404, 413, 500, 503, 511 } do
        for at = 1, #pages, 5 do
          e:fault { how = "status", status = status, body = (pages[at]:gsub("%%d", status)) }
          for name, call in pairs {
            send_telemetry = function() return dev:send_telemetry { a = 1 } end,
            send_attributes = function() return dev:send_attributes { a = 1 } end,
            reply_rpc = function() return dev:reply_rpc(1, "x") end,
            claim = function() return dev:claim() end,
            request_attributes = function() return dev:request_attributes() end,
            provision = function() return tb.provision { url = e.url, key = "k", secret = "s" } end,
          } do
            local ok, err = call()
            assert.is_nil(ok, name)
            assert.same({ "answer", status, true }, { err.kind, err.status, err.retryable }, name)
            assert.truthy(err.message:find("any proxy, firewall or portal on the way", 1, true), err.message)
          end
          e:clear_faults()
        end
      end
    end)

    it("an empty page is nobody's word", function()
      for _, status in ipairs { 200, 400, 401, 404, 408, 500, 503 } do
        e:fault { how = "status", status = status, headers = { ["Content-Type"] = "text/html; charset=utf-8" } }
        for _, call in ipairs { "send_telemetry", "send_attributes", "request_attributes", "firmware" } do
          local values = call == "firmware" and { title = "t", version = "1" } or call == "request_attributes" and {}
            or { a = 1 }
          local ok, err = dev[call](dev, values)
          assert.is_nil(ok, call)
          assert.same({ "answer", status, true }, { err.kind, err.status, err.retryable }, call)
          assert.equal(("%s: the answer is an empty page; check the url, and any proxy, firewall or portal on the way: "
            .. "this is no answer of ThingsBoard's (status %d)"):format(call, status), err.message)
        end
        e:clear_faults()
      end
    end)

    it("a proxy that asks for credentials ends no iterator", function()
      e:set_shared(e.token, '{"n":1}')
      e:fault { how = "status", status = 401, headers = { ["WWW-Authenticate"] = 'Basic realm="proxy"' }, count = 6 }
      local _, err = dev:send_telemetry { a = 1 }
      assert.same({ "answer", 401, true }, { err.kind, err.status, err.retryable })
      assert.truthy(err.message:find("asks for credentials", 1, true))
      local requests <close> = dev:rpc_requests { period = 1 }
      local updates <close> = dev:attribute_updates()
      assert.same({ n = 1 }, (updates()))
      e:rpc(e.token, { method = "m", timeout = 20000 })
      assert.equal("m", requests().method)
    end)

    it("nothing leaves an outbox for a page", function()
      tb.clock(true) -- or the outbox would ask for the time first
      local directory = scratch.new()
      local box <close> = assert(dev:outbox { path = directory .. "/box" })
      assert(box:put { a = 1 })
      for _, case in ipairs {
        { 200, pages[1] }, { 200, "OK" }, { 200, '{"ok":true}' }, { 403, pages[1] }, { 400, "Bad Request" },
        { 404, "default backend - 404" },
      } do
        e:fault { how = "status", status = case[1], body = case[2] }
        local ok, err
        for _ = 1, 10 do -- on a busy machine a post may take longer
          ok, err = box:drain { deadline = 0.5 }
          if ok or err.kind ~= "timeout" then break end
        end
        assert.is_nil(ok)
        assert.equal("answer", err.kind)
        e:clear_faults()
      end
      assert.equal(1, box:stats().records)
      assert.is_nil(box:stats().lost.rejected)
      assert.same({}, box:rejected())
      assert(box:drain { deadline = 10 })
      assert.equal(0, box:stats().records)
      scratch.remove(directory)
    end)
  end)
end)
