--- The stories with two sides that were played with a ThingsBoard 4.3.1.3, told again: what the device sent and got,
-- what the server's user did and got. Where the story waits for seconds, this one waits for a twentieth of them.
-- spec/data/scenarios-4.3.1.3.txt holds what happened there.
local cjson = require "cjson"
local socket = require "socket"
local emulator = require "spec.support.emulator"
local wire = require "spec.support.wire"

local STORY = {
  async_timeout = 1500, async_check = 50, request_timeout = 3000, rpc_min_timeout = 250, rpc_default_timeout = 5000,
  ota_delay = 30,
}

describe("the emulator tells the story again:", function()
  local e, token

  setup(function() e = emulator.start(STORY) end)
  teardown(function() e:stop() end)
  before_each(function() token = e:create_device() end)

  local function open(method, path, body, headers)
    return wire.open(e.port, method, "/api/v1/" .. token .. path, body, headers)
  end

  local function request(...) return open(...):finish() end

  -- A poll counts as open when the emulator has noted it.
  local function open_poll(path, milliseconds)
    local before = e:arrived()
    local talk = open("GET", path .. "?timeout=" .. milliseconds)
    e:arrived(before + 1)
    return talk
  end

  local function poll(milliseconds) return request("GET", "/rpc?timeout=" .. milliseconds) end

  local function reply(id, body) return request("POST", "/rpc/" .. id, body or "{}").status end

  local function give_up_poll()
    local talk = open_poll("/rpc", 2000)
    talk:give_up()
  end

  local function body_of(answer)
    assert.equal(200, answer.status)
    return answer.body
  end

  local function send(fields) return e:rpc(token, fields) end

  local function caller(handle) return e:rpc_result(handle, 10) end

  it("rpc_basic", function()
    local live = open_poll("/rpc", 1000)
    local handle = send({ method = "setGpio", params = '{"pin":1}' })
    local answer = live:finish()
    assert.equal('{"id":0,"method":"setGpio","params":{"pin":1}}', body_of(answer))
    assert.equal("application/json", answer.headers["content-type"])
    assert.equal("46", answer.headers["content-length"])
    assert.is_nil(e:rpc_result(handle))
    assert.equal(200, reply(0, '{"ok":true}'))
    assert.same({ status = 200, body = '{"ok":true}' }, caller(handle))
    assert.equal(200, reply(0, '{"ok":true}'))

    live = open_poll("/rpc", 1000)
    handle = send({ method = "noParams", oneway = true })
    assert.equal('{"id":1,"method":"noParams","params":null}', body_of(live:finish()))
    assert.same({ status = 200, body = "" }, caller(handle))

    handle = send({ method = "early", params = "[1,2.0,1e5,null]" })
    for _ = 1, 2 do
      assert.equal('{"id":2,"method":"early","params":[1,2.0,100000.0,null]}', body_of(poll(100)))
    end
    assert.equal(200, reply(2, "text"))
    assert.equal(406, caller(handle).status)
  end)

  it("rpc_basic: what the caller gets of a reply", function()
    local big = '{"a":42.0,"b":100000.0,"c":9007199254740993}'
    local replies = {
      { '"text"', 200, '"text"' }, { "5", 200, "5" }, { "null", 200, "null" }, { "[1]", 200, "[1]" },
      { '{"a":42.0,"b":1e5,"c":9007199254740993}', 200, big }, { "{bad", 406, "" },
    }
    for id, expected in ipairs(replies) do
      local handle = send({ method = "m" })
      poll(100)
      assert.equal(200, reply(id - 1, expected[1]))
      assert.same({ status = expected[2], body = expected[3] }, caller(handle))
    end
  end)

  it("rpc_basic: what the device gets of params", function()
    local params = {
      { '"text"', '"text"' }, { "5", "5" }, { "42.0", "42.0" }, { "true", "true" }, { "[]", "[]" }, { "{}", "{}" },
      { '{"big":9007199254740993,"x":1e+300,"u":"é\\u0000😀"}', '{"big":9007199254740993,"x":1.0E300,"u":"é\\u0000😀"}' },
    }
    for index, pair in ipairs(params) do
      local live = open_poll("/rpc", 1000)
      send({ method = "m", params = pair[1], oneway = true })
      assert.equal(('{"id":%d,"method":"m","params":%s}'):format(index - 1, pair[2]), body_of(live:finish()))
    end
  end)

  it("rpc_late_and_expired", function()
    assert.equal(504, caller(send({ method = "nobody", timeout = 300 })).status)
    assert.equal(408, poll(50).status)
    -- The poll that ended left the server believing that the device listens.
    assert.same({ status = 200, body = "" }, caller(send({ method = "lost", oneway = true })))
    assert.equal(408, poll(50).status)
    local live = open_poll("/rpc", 1000)
    local handle = send({ method = "m", params = "{}", timeout = 300 })
    assert.equal('{"id":2,"method":"m","params":{}}', body_of(live:finish()))
    assert.equal(504, caller(handle).status)
    assert.equal(200, reply(2))
    assert.equal(408, poll(50).status)
  end)

  it("rpc_stale: after a poll that ended by 408", function()
    assert.equal(408, poll(50).status)
    assert.same({ status = 200, body = "" }, caller(send({ method = "lost", oneway = true })))
    assert.equal(408, poll(50).status)
    assert.equal(408, poll(50).status)
    local handle = send({ method = "twoway", params = "{}" })
    assert.equal('{"id":1,"method":"twoway","params":{}}', body_of(poll(50)))
    reply(1)
    assert.same({ status = 200, body = "{}" }, caller(handle))
    assert.equal(408, poll(50).status)
    handle = send({ method = "kept", params = "{}", oneway = true, persistent = true })
    assert.truthy(caller(handle).body:find('^{"rpcId":"%x+%-%x+%-%x+%-%x+%-%x+"}$'))
    assert.equal('{"id":2,"method":"kept","params":{}}', body_of(poll(50)))
    assert.equal(408, poll(50).status)
  end)

  it("rpc_stale: after a client that gave up", function()
    give_up_poll()
    assert.same({ status = 200, body = "" }, caller(send({ method = "lost", oneway = true })))
    assert.equal(408, poll(50).status)
    give_up_poll()
    local handle = send({ method = "twoway", params = "{}" })
    assert.equal('{"id":1,"method":"twoway","params":{}}', body_of(poll(50)))
    reply(1)
    assert.same({ status = 200, body = "{}" }, caller(handle))
    give_up_poll()
    assert.truthy(caller(send({ method = "lost", oneway = true, persistent = true })).body:find("rpcId", 1, true))
    assert.equal(408, poll(50).status)
    assert.equal(408, poll(50).status)
  end)

  it("rpc_two_polls", function()
    local a, b = open_poll("/rpc", 1000), open_poll("/rpc", 1000)
    local handle = send({ method = "both", params = "{}" })
    assert.equal('{"id":0,"method":"both","params":{}}', body_of(a:finish()))
    assert.equal('{"id":0,"method":"both","params":{}}', body_of(b:finish()))
    assert.equal(200, reply(0))
    assert.same({ status = 200, body = "{}" }, caller(handle))
    local live = open_poll("/rpc", 1000)
    for number = 0, 2 do send({ method = "burst" .. number, params = tostring(number), oneway = true }) end
    assert.equal('{"id":1,"method":"burst0","params":0}', body_of(live:finish()))
    assert.equal('{"id":2,"method":"burst1","params":1}', body_of(poll(50)))
    assert.equal('{"id":3,"method":"burst2","params":2}', body_of(poll(50)))
    assert.equal(408, poll(50).status)
  end)

  it("rpc_hold", function()
    local slow = '{"id":0,"method":"slow","params":{}}'
    local a, b = open_poll("/rpc", 1000), open_poll("/rpc", 1000)
    local handle = send({ method = "slow", params = "{}", timeout = 1400 })
    assert.equal(slow, body_of(a:finish()))
    assert.equal(slow, body_of(b:finish()))
    assert.equal(slow, body_of(poll(50)))
    assert.equal(504, caller(send({ method = "behind", oneway = true, timeout = 300 })).status)
    local behind = send({ method = "behind2", params = "{}" })
    assert.equal(slow, body_of(poll(50)))
    assert.equal(200, reply(0))
    assert.same({ status = 200, body = "{}" }, caller(handle))
    for _ = 1, 2 do assert.equal('{"id":2,"method":"behind2","params":{}}', body_of(poll(50))) end
    assert.equal(200, reply(2))
    assert.equal(200, caller(behind).status)
    local live = open_poll("/rpc", 1000)
    handle = send({ method = "slow2", params = "{}", timeout = 500 })
    assert.equal('{"id":3,"method":"slow2","params":{}}', body_of(live:finish()))
    assert.equal('{"id":3,"method":"slow2","params":{}}', body_of(poll(50)))
    assert.equal(504, caller(handle).status)
    assert.equal(408, poll(50).status)
  end)

  it("attribute_updates", function()
    local values = '{"a":1,"b":42.0,"c":"x","d":{"k":[1,null]},"e":true,"f":"10000000000000000000",'
      .. '"g":9007199254740993,"h":42}'
    local live = open_poll("/attributes/updates", 1000)
    e:set_shared(token, values:gsub('"10000000000000000000"', "1e19"):gsub('"h":42', '"h":"42"'))
    local answer = live:finish()
    assert.equal(values, body_of(answer))
    assert.equal("107", answer.headers["content-length"])
    assert.equal('{"shared":' .. values .. "}", body_of(request("GET", "/attributes?sharedKeys=a,b,c,d,e,f,g,h")))
    local a, b = open_poll("/attributes/updates", 1000), open_poll("/attributes/updates", 1000)
    e:set_shared(token, '{"a":2}')
    assert.equal('{"a":2}', body_of(a:finish()))
    assert.equal('{"a":2}', body_of(b:finish()))
    live = open_poll("/attributes/updates", 1000)
    e:set_shared(token, '{"a":2}')
    assert.equal('{"a":2}', body_of(live:finish()))
    live = open_poll("/attributes/updates", 1000)
    e:delete_shared(token, { "a", "nope" })
    assert.equal('{"deleted":["a","nope"]}', body_of(live:finish()))
    live = open_poll("/attributes/updates", 200)
    e:set_server(token, '{"a":2}')
    answer = live:finish()
    assert.equal(408, answer.status)
    assert.equal("close", answer.headers.connection)
    live = open_poll("/attributes/updates", 200)
    request("POST", "/attributes", '{"a":2}')
    assert.equal(408, live:finish().status)
    live = open_poll("/attributes/updates", 1000)
    e:set_shared(token, '{"x":1}')
    e:set_shared(token, '{"x":2}')
    assert.equal('{"x":1}', body_of(live:finish()))
    e:set_shared(token, '{"x":3}')
    assert.equal(408, request("GET", "/attributes/updates?timeout=50").status)
  end)

  it("device_deleted", function()
    local polls = { open_poll("/rpc", 1000), open_poll("/attributes/updates", 1000) }
    e:delete_device(token)
    for _, live in ipairs(polls) do
      local answer = live:finish()
      assert.equal(403, answer.status)
      assert.equal("Device was deleted!", answer.body)
      assert.equal("application/json", answer.headers["content-type"])
    end
    assert.equal(401, request("POST", "/telemetry", "{}").status)
  end)

  it("device_deleted: other credentials", function()
    local live = open_poll("/rpc", 300)
    local old = token
    e:change_token(old, old .. "2")
    e:rpc(old .. "2", { method = "m" })
    assert.equal(408, live:finish().status)
    assert.equal(401, request("POST", "/telemetry", "{}").status)
    token = old .. "2"
    assert.equal(200, request("POST", "/telemetry", "{}").status)
  end)

  local FAILURE = '{"errorMsg":"Failed to provision device!","status":"FAILURE"}'
  local NOT_FOUND = '{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}'

  local function provision(fields, key, secret)
    local body = ('{"provisionDeviceKey":"%s","provisionDeviceSecret":"%s"%s}'):format(key, secret, fields)
    return body_of(wire.request(e.port, "POST", "/api/v1/provision", body))
  end

  it("provisioning", function()
    e:provision_profile({ key = "pk", secret = "ps", strategy = "ALLOW_CREATE" })
    local function try(fields) return provision(fields, "pk", "ps") end
    local MADE_UP = '^{"credentialsValue":"%w%w%w%w%w%w%w%w%w%w%w%w%w%w%w%w%w%w%w%w","credentialsType":"ACCESS_TOKEN",'
      .. '"status":"SUCCESS"}$'
    assert.matches(MADE_UP, try(',"deviceName":"named"'))
    assert.equal(FAILURE, try(',"deviceName":"named"'))
    assert.matches(MADE_UP, try(""))
    assert.matches(MADE_UP, try(',"deviceName":""'))
    assert.equal(FAILURE, try(',"deviceName":"  "'))
    assert.matches(MADE_UP, try(',"deviceName":"  blanks around "'))
    assert.equal(FAILURE, try(',"deviceName":"blanks around"'))
    local own = '{"credentialsValue":"pvTOKEN","credentialsType":"ACCESS_TOKEN","status":"SUCCESS"}'
    assert.equal(own, try(',"deviceName":"own","token":"pvTOKEN"'))
    assert.equal(FAILURE, try(',"deviceName":"taken","token":"pvTOKEN"'))
    assert.equal('{"credentialsValue":{"clientId":"pvc","userName":"u","password":"p"},"credentialsType":"MQTT_BASIC",'
      .. '"status":"SUCCESS"}', try(',"credentialsType":"MQTT_BASIC","clientId":"pvc","username":"u","password":"p"'))
    assert.matches(MADE_UP, try(',"credentialsType":"MQTT_BASIC"'))
    assert.equal('{"credentialsValue":"MIIBpv","credentialsType":"X509_CERTIFICATE","status":"SUCCESS"}',
      try(',"credentialsType":"X509_CERTIFICATE","hash":"MIIBpv"'))
    assert.matches(MADE_UP, try(',"gateway":true'))
    assert.matches(MADE_UP, try(',"nobody":"knows"'))
    assert.matches(MADE_UP, try(',"deviceName":12345'))
    assert.matches(MADE_UP, try(',"credentialsType":"LWM2M_CREDENTIALS"'))
    assert.matches('"a/bpv"', try(',"token":"a/bpv"'))
    assert.equal(FAILURE, try(',"deviceName":"' .. ("n"):rep(300) .. '"'))
    assert.equal(NOT_FOUND, provision("", "pk", "wrong"))
    token = "pvTOKEN"
    assert.equal(200, request("POST", "/telemetry", "{}").status)
  end)

  it("provisioning: prepared devices", function()
    e:provision_profile({ key = "check", secret = "s", strategy = "CHECK_PRE_PROVISIONED" })
    e:provision_profile({ key = "off", secret = "s", strategy = "DISABLED" })
    e:create_device({ name = "prepared", token = "CwLtVSjDqgFsCSIiwe98" })
    assert.equal('{"credentialsValue":"CwLtVSjDqgFsCSIiwe98","credentialsType":"ACCESS_TOKEN","status":"SUCCESS"}',
      provision(',"deviceName":"prepared"', "check", "s"))
    assert.equal(FAILURE, provision(',"deviceName":"prepared"', "check", "s"))
    assert.equal(FAILURE, provision(',"deviceName":"no such"', "check", "s"))
    assert.equal(FAILURE, provision("", "check", "s"))
    assert.equal(NOT_FOUND, provision("", "off", "s"))
  end)

  it("claiming", function()
    local function claim(secret)
      assert.equal(200, request("POST", "/claim", ('{"secretKey":"%s","durationMs":60000}'):format(secret)).status)
    end
    claim("right")
    assert.equal("SUCCESS", e:claim_by_user(token, "right"))
    assert.equal("CLAIMED", e:claim_by_user(token, "right"))
    claim("again")
    e:reclaim(token)
    claim("first")
    claim("second")
    assert.equal("FAILURE", e:claim_by_user(token, "wrong"))
    assert.equal("FAILURE", e:claim_by_user(token, "second"))
    assert.equal("FAILURE", e:claim_by_user(token, "first"))
    assert.equal(200, request("POST", "/claim").status)
    assert.equal("SUCCESS", e:claim_by_user(token))
  end)

  -- Ten thousand bytes and a bit, as in the story.
  local PACKAGE = {}
  for code = 0, 255 do PACKAGE[#PACKAGE + 1] = string.char(code) end
  PACKAGE = table.concat(PACKAGE):rep(40) .. "end"

  local function get_package(query, headers, kind)
    return request("GET", "/" .. (kind or "firmware") .. "?title=fw&version=1.0" .. query, nil, headers)
  end

  local CHECKSUM = "b5e4c407ede93f60bfeb79c5f2d415cc0de80cbf3a1416d6d80bbd3dc6a80c41"

  local function keys_of(list)
    local keys = {}
    for index, entry in ipairs(list) do keys[index] = entry.key end
    return keys
  end

  it("firmware: what the device is told", function()
    local live = open_poll("/attributes/updates", 1000)
    e:assign(token, "firmware", { title = "fw", version = "1.0", tag = "fw 1.0", data = PACKAGE, file_name = "fw.bin" })
    assert.equal('{"deleted":["fw_url"]}', body_of(live:finish()))
    assert.equal(408, request("GET", "/attributes/updates?timeout=50").status)
    local names = "fw_title,fw_version,fw_tag,fw_size,fw_checksum_algorithm,fw_checksum,fw_url"
    assert.equal(('{"shared":{"fw_checksum":"%s","fw_size":10243,"fw_tag":"fw 1.0","fw_title":"fw",'
      .. '"fw_checksum_algorithm":"SHA256","fw_version":"1.0"}}'):format(CHECKSUM),
      body_of(request("GET", "/attributes?sharedKeys=" .. names)))
    assert.same({ "target_fw_title", "target_fw_version", "target_fw_tag", "target_fw_ts", "fw_state", "fw_state" },
      keys_of(e:telemetry(token)))
    live = open_poll("/attributes/updates", 1000)
    e:unassign(token, "firmware")
    assert.equal('{"deleted":["fw_checksum_algorithm","fw_version","fw_ts","fw_tag","fw_checksum","fw_title",'
      .. '"fw_state","fw_size","fw_url"]}', body_of(live:finish()))
    assert.equal(408, request("GET", "/attributes/updates?timeout=50").status)
    assert.equal(404, get_package("").status)
  end)

  it("firmware: the download", function()
    e:assign(token, "firmware", { title = "fw", version = "1.0", data = PACKAGE, file_name = "fw.bin" })
    local whole = get_package("")
    assert.equal(PACKAGE, body_of(whole))
    assert.equal("attachment;filename=fw.bin", whole.headers["content-disposition"])
    assert.equal("fw.bin", whole.headers["x-filename"])
    assert.equal("bytes", whole.headers["accept-ranges"])
    assert.equal("application/octet-stream", whole.headers["content-type"])
    assert.equal("10243", whole.headers["content-length"])
    local parts = {
      ["&chunk=3"] = PACKAGE, ["&size=4096&chunk=0"] = PACKAGE:sub(1, 4096), ["&size=4096&chunk=2"] = PACKAGE:sub(8193),
      ["&size=4096&chunk=3"] = "", ["&size=4096&chunk=4"] = "", ["&size=10243&chunk=0"] = PACKAGE,
      ["&size=10243&chunk=1"] = "", ["&size=-1&chunk=0"] = PACKAGE, ["&size=1073741824&chunk=2"] = "",
      ["&size=65536&chunk=65536"] = PACKAGE,
    }
    for query, part in pairs(parts) do assert.equal(part, body_of(get_package(query)), query) end
    assert.equal(500, get_package("&size=4096&chunk=-1").status)
    local head = request("HEAD", "/firmware?title=fw&version=1.0")
    assert.equal("10243", head.headers["content-length"])
    assert.equal(PACKAGE, body_of(get_package("", { ["Accept-Encoding"] = "gzip" })))
    assert.equal(PACKAGE, body_of(get_package("", { ["If-None-Match"] = "*" })))
    assert.equal(400, request("GET", "/firmware?title=fw&version=2").status)
    assert.equal(404, get_package("", nil, "software").status)
  end)

  it("firmware: ranges", function()
    e:assign(token, "firmware", { title = "fw", version = "1.0", data = PACKAGE, file_name = "fw.bin" })
    local ranges = {
      { "bytes=0-9", "", 206, "bytes 0-9/10243", PACKAGE:sub(1, 10) },
      { "bytes=10000-", "", 206, "bytes 10000-10242/10243", PACKAGE:sub(10001) },
      { "bytes=99999-", "", 416, "bytes */10243", PACKAGE },
      { "bytes=-5", "", 206, "bytes 10238-10242/10243", PACKAGE:sub(-5) },
      { "bytes=0-9", "&size=4096&chunk=0", 206, "bytes 0-9/4096", PACKAGE:sub(1, 10) },
    }
    for _, case in ipairs(ranges) do
      local answer = get_package(case[2], { Range = case[1] })
      assert.equal(case[3], answer.status)
      assert.equal(case[4], answer.headers["content-range"])
      assert.equal(case[5], answer.body)
    end
    local never = open("GET", "/firmware?title=fw&version=1.0", nil, { Range = "bytes=0-1,5-6" })
    assert.is_nil(never:finish(STORY.async_timeout / 1000 + 0.2))
  end)

  it("url_package", function()
    local live = open_poll("/attributes/updates", 1000)
    e:assign(token, "firmware", { title = "u1", version = "1", url = "https://example.org/fw.bin" })
    assert.equal('{"deleted":["fw_checksum_algorithm","fw_tag","fw_checksum","fw_size"]}', body_of(live:finish()))
    assert.equal('{"shared":{"fw_title":"u1","fw_url":"https://example.org/fw.bin","fw_version":"1"}}',
      body_of(request("GET", "/attributes?sharedKeys=fw_title,fw_version,fw_url,fw_size")))
    assert.equal(404, request("GET", "/firmware?title=u1&version=1").status)
  end)

  it("rpc_window: one poll loses now and then, two that end apart lose nothing", function()
    -- A poll's end, and a request before the next one: lost with one poll ...
    assert.equal(408, poll(50).status)
    assert.equal(200, caller(send({ method = "m", oneway = true })).status)
    assert.equal(408, poll(50).status)
    -- ... but not with another one open.
    local other = open_poll("/rpc", 1000)
    assert.equal(408, poll(50).status)
    assert.equal(200, caller(send({ method = "m", oneway = true })).status)
    assert.equal('{"id":1,"method":"m","params":null}', body_of(other:finish()))
  end)

  it("rate_limits", function()
    -- Buckets that take an hour to fill again.
    e:set({ rate_limits = { messages = "4:3600", telemetry_messages = "3:3600", telemetry_points = "5:3600" } })
    finally(function() e:set({ rate_limits = {} }) end)
    assert.equal(500, request("POST", "/telemetry", '{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6}').status)
    assert.equal(200, request("POST", "/telemetry", '{"a":1,"b":2,"c":3,"d":4}').status)
    local over = request("POST", "/telemetry", '{"a":1,"b":2,"c":3,"d":4}')
    assert.equal(500, over.status)
    assert.equal("", over.body)
    assert.equal("close", over.headers.connection)
    for _ = 1, 4 do assert.equal("{}", body_of(request("GET", "/attributes"))) end
    assert.equal(500, request("POST", "/rpc/1", "{}").status)
    assert.equal(500, request("POST", "/claim").status)
    assert.equal(500, request("GET", "/firmware?title=x&version=1").status)
    assert.equal(500, request("POST", "/telemetry", "{}").status)
    local silent = {
      open("GET", "/attributes"), open("GET", "/rpc?timeout=100"), open("POST", "/rpc", '{"method":"m","params":{}}'),
    }
    for _, talk in ipairs(silent) do
      local answer = talk:finish()
      assert.equal(503, answer.status)
      assert.is_true(answer.seconds >= STORY.async_timeout / 1000)
      assert.matches('^{"message":null,"errorCode":2,"status":503,"timestamp":%d+}$', answer.body)
    end
  end)

  it("keep_alive", function()
    e:set({ idle_timeout = 300 })
    finally(function() e:set({ idle_timeout = 60000 }) end)
    local connection = assert(socket.connect("127.0.0.1", e.port))
    connection:settimeout(5)
    local function ask()
      connection:send("POST /api/v1/" .. token .. "/telemetry HTTP/1.1\r\nHost: x\r\n"
        .. 'Content-Length: 7\r\n\r\n{"a":1}')
      local head = {}
      repeat head[#head + 1] = connection:receive("*l") until head[#head] == ""
      return table.concat(head, "\n")
    end
    for _ = 1, 99 do assert.is_nil(ask():find("Connection: close", 1, true)) end
    assert.truthy(ask():find("\nConnection: close\n", 1, true))
    assert.equal("closed", (select(2, connection:receive(1))))
    connection:close()
    connection = assert(socket.connect("127.0.0.1", e.port))
    connection:settimeout(5)
    ask()
    local started = socket.gettime()
    assert.equal("closed", (select(2, connection:receive(1))))
    assert.is_true(socket.gettime() - started > 0.25)
    connection:close()
  end)

  it("telemetry_again", function()
    local function post(body) assert.equal(200, request("POST", "/telemetry", body).status) end
    post('{"ts":1700000002000,"values":{"a":2}}')
    post('{"ts":1700000001000,"values":{"a":1}}')
    post('{"ts":1700000001000,"values":{"a":7}}')
    post('[{"ts":1700000005000,"values":{"b":1,"c":1}},{"ts":1700000005000,"values":{"b":2}}]')
    post('{"ts":4000000000000,"values":{"f":1}}')
    post('{"ts":0,"values":{"z":1}}')
    post('{"ts":-1,"values":{"m":1}}')
    local series = e:series(token)
    local older = { ts = 1700000001000, type = "LONG", value = "7" }
    local newer = { ts = 1700000002000, type = "LONG", value = "2" }
    assert.same({ older, newer }, series.a)
    assert.same({ { ts = 1700000005000, type = "LONG", value = "2" } }, series.b)
    assert.same({ { ts = 1700000005000, type = "LONG", value = "1" } }, series.c)
    assert.equal(4000000000000, series.f[1].ts)
    assert.equal(0, series.z[1].ts)
    assert.equal(-1, series.m[1].ts)
    local records = {}
    for index = 1, 20000 do records[index] = ('{"ts":%d,"values":{"n":%d}}'):format(1700000000000 + index, index) end
    post("[" .. table.concat(records, ",") .. "]")
    local deadline = socket.gettime() + 20
    repeat series = e:series(token) until series.n and #series.n == 20000 or socket.gettime() > deadline
    assert.equal("20000", series.n[20000].value)
  end)

  it("client_rpc", function()
    e:on_client_rpc("echo")
    finally(function() e:on_client_rpc(nil) end)
    local answer = request("POST", "/rpc", '{"method":"getTime","params":{}}')
    assert.matches('^{"time":%d+}$', body_of(answer))
    assert.equal("text/plain;charset=UTF-8", answer.headers["content-type"])
    answer = request("POST", "/rpc", '{"method":"getTime","params":{}}', { Accept = "application/json" })
    assert.equal("application/json", answer.headers["content-type"])
    local echoes = {
      ['{"method":"echo","params":{"a":1.0,"b":9007199254740993,"c":1e5,"d":"é"}}'] =
        '{"echo":"echo","params":{"a":1.0,"b":9007199254740993,"c":100000.0,"d":"é"}}',
      ['{"method":"echo","params":"text"}'] = '{"echo":"echo","params":"text"}',
      ['{"method":"echo","params":null}'] = '{"echo":"echo"}',
      ['{"method":5,"params":5}'] = '{"echo":"5","params":5}',
      ['{"method":"echo","params":{},"extra":1}'] = '{"echo":"echo","params":{}}',
    }
    for body, echo in pairs(echoes) do assert.equal(echo, body_of(request("POST", "/rpc", body))) end
    e:on_client_rpc('{"a": 1}')
    assert.same({ a = 1 }, cjson.decode(body_of(request("POST", "/rpc", '{"method":"m","params":[]}'))))
    assert.equal("getTime", e:client_requests(token)[1].method)
  end)
end)
