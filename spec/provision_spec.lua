local emulator = require "spec.support.emulator"
local scratch = require "spec.support.scratch"
local tb = require "thingsboard"

describe("provision", function()
  local e, directory

  before_each(function()
    e = emulator.start()
    directory = scratch.new()
    e:provision_profile { key = "K3Y", secret = "S3CRET", strategy = "ALLOW_CREATE" }
  end)

  after_each(function()
    e:stop()
    scratch.remove(directory)
  end)

  local function provision(more)
    local given = { url = e.url, key = "K3Y", secret = "S3CRET" }
    for name, value in pairs(more or {}) do given[name] = value end
    return tb.provision(given)
  end

  local function refused(kind, more)
    local credentials, err = provision(more)
    assert.is_nil(credentials)
    assert.equal(kind, err.kind)
    for _, secret in ipairs { "K3Y", "S3CRET", "W1SHED", "PASSW0RD" } do
      assert.is_nil(tostring(err):find(secret, 1, true), tostring(err))
    end
    return err
  end

  it("gives a token that works", function()
    local credentials = assert(provision { device_name = "new" })
    assert.equal("ACCESS_TOKEN", credentials.credentials_type)
    local dev <close> = tb.device { url = e.url, token = credentials.token }
    assert(dev:send_telemetry { a = 1 })
  end)

  it("gives a name of the server's to a device that has none", function()
    assert.is_string(assert(provision()).token)
  end)

  it("takes a token that the device wishes for", function()
    assert.equal("W1SHED", assert(provision { credentials_type = "ACCESS_TOKEN", token = "W1SHED" }).token)
    refused("refused", { device_name = "other", credentials_type = "ACCESS_TOKEN", token = "W1SHED" })
  end)

  it("gives the other types of credentials in Lua terms", function()
    assert.same({ credentials_type = "MQTT_BASIC", username = "u", password = "PASSW0RD" },
      provision { credentials_type = "MQTT_BASIC", username = "u", password = "PASSW0RD" })
    e:fault { path = "/provision", how = "status", status = 200, count = 1, body = '{"status":"SUCCESS",'
      .. '"credentialsType":"MQTT_BASIC","credentialsValue":{"clientId":"c","userName":"","password":5}}' }
    assert.same({ credentials_type = "MQTT_BASIC", client_id = "c" }, provision())
    assert.same({ credentials_type = "X509_CERTIFICATE", certificate = "MIIB" },
      provision { credentials_type = "X509_CERTIFICATE",
        hash = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----" })
    assert.equal("ACCESS_TOKEN", assert(provision { credentials_type = "LWM2M_CREDENTIALS" }).credentials_type)
    e:fault { path = "/provision", how = "status", status = 200, count = 1,
      body = '{"credentialsType":"LWM2M_CREDENTIALS","status":"SUCCESS"}' }
    assert.same({ credentials_type = "LWM2M_CREDENTIALS" }, provision())
  end)

  it("reads answers in the form of the server's older documentation", function()
    for _, body in ipairs {
      '{"provisionDeviceStatus":"SUCCESS","credentialsType":"ACCESS_TOKEN","accessToken":"T0"}',
      '{"provisionDeviceStatus":"SUCCESS","credentialsType":"ACCESS_TOKEN","credentialsValue":"T0"}',
      '{"status":"SUCCESS","credentialsType":"ACCESS_TOKEN","accessToken":"T0","credentialsValue":null}',
    } do
      e:fault { path = "/provision", how = "status", status = 200, body = body, count = 1 }
      assert.same({ credentials_type = "ACCESS_TOKEN", token = "T0" }, provision())
    end
    for status, kind in pairs { NOT_FOUND = "not_found", FAILURE = "refused" } do
      local body = ('{"provisionDeviceStatus":"%s"}'):format(status)
      e:fault { path = "/provision", how = "status", status = 200, body = body, count = 1 }
      assert.matches("^provision: %u", refused(kind).message) -- without words of the server's
    end
  end)

  it("tells the server's answers apart", function()
    local err = refused("not_found", { secret = "S3CRET-wrong" })
    assert.equal("provision: Provision data was not found! Check the key and the secret, and that the device profile "
      .. "allows provisioning", err.message)
    refused("not_found", { key = "K3Y-wrong" })
    assert(provision { device_name = "taken" })
    assert.matches("^provision: .+ The name may be taken, unknown or provisioned already, or the credentials may be in "
      .. "use$", refused("refused", { device_name = "taken" }).message)
    e:provision_profile { key = "K3Y", secret = "S3CRET", strategy = "DISABLED" }
    refused "not_found"
  end)

  it("gives what a pre-provisioned device has, once", function()
    e:provision_profile { key = "K3Y", secret = "S3CRET", strategy = "CHECK_PRE_PROVISIONED" }
    local token = e:create_device { name = "pre" }
    assert.equal(token, assert(provision { device_name = "pre" }).token)
    refused("refused", { device_name = "pre" })
    refused("refused", { device_name = "unknown" })
    refused "refused"
  end)

  it("says what is wrong with an answer", function()
    local function answered(body)
      e:fault { path = "/provision", how = "status", status = 200, body = body, count = 1 }
      return refused "answer"
    end
    for _, body in ipairs { "", "null", "[]", "5", "<html>", "{}", '{"status":"ok"}', '{"status":5}',
      '{"status":"MAYBE"}', '{"status":"SUCCESS"}', '{"status":"SUCCESS","credentialsType":null}' } do
      assert.is_true(answered(body).retryable) -- somebody else's
    end
    for _, credentials in ipairs { '"ACCESS_TOKEN"', '"ACCESS_TOKEN","credentialsValue":5',
      '"ACCESS_TOKEN","credentialsValue":""', '"X509_CERTIFICATE","credentialsValue":5',
      '"MQTT_BASIC","credentialsValue":"x"', '"OTHER","credentialsValue":"x"' } do
      local err = answered('{"status":"SUCCESS","credentialsType":' .. credentials .. "}")
      assert.same({ false, "provision: the answer holds credentials that this library does not know" },
        { err.retryable, err.message })
    end
    e:fault { path = "/provision", how = "status", status = 500, count = 1,
      body = '{"message":"Failed to find K3Y and S3CRET","errorCode":2,"status":500,"timestamp":1}' }
    assert.is_true(refused("http").retryable)
    e:fault { path = "/provision", how = "close", count = 1 }
    refused "network"
  end)

  it("checks its options", function()
    assert.error_matches(function() tb.provision { url = e.url, key = "k" } end, "option 'secret' is missing")
    assert.error_matches(function() provision { name = "x" } end, "unknown option 'name'")
    assert.error_matches(function() provision { credentials_type = "TOKEN" } end, "must be 'ACCESS_TOKEN' or")
    assert.error_matches(function() provision { token = "a/b" } end, "which no URL")
    assert.error_matches(function() provision { anew = true } end, "option 'store' is missing")
    assert.equal(0, #e:requests())
  end)

  describe("with a store", function()
    local function store() return directory .. "/credentials" end

    local function mode() return (io.popen("stat -c %a " .. store()):read "l") end

    it("keeps what it got, and asks once", function()
      local first = assert(provision { device_name = "kept", store = store() })
      assert.equal("600", mode())
      assert.same(first, provision { device_name = "kept", store = store() })
      assert.equal(1, #e:requests())
    end)

    it("provisions anew when told to", function()
      local first = assert(provision { store = store() })
      local second = assert(provision { store = store(), anew = true })
      assert.not_equal(first.token, second.token)
      assert.same(second, provision { store = store() })
    end)

    it("leaves what is there when provisioning anew fails", function()
      local first = assert(provision { device_name = "kept", store = store() })
      refused("refused", { device_name = "kept", store = store(), anew = true })
      assert.same(first, provision { store = store() })
    end)

    it("asks for nothing where nothing can be kept", function()
      refused("file", { store = directory .. "/none/credentials" })
      assert.equal(0, #e:requests())
    end)

    it("takes no file for credentials that has none", function()
      local HOLDS_NONE <const> = "provision: %s holds no credentials; remove it, or provision anew"
      for _, text in ipairs { "no credentials", "{}", "5", '{"credentials_type":5}' } do
        io.open(store(), "w"):write(text):close()
        assert.equal(HOLDS_NONE:format(store()), refused("file", { store = store() }).message)
      end
      assert.equal(HOLDS_NONE:format(directory), refused("file", { store = directory }).message)
      assert.matches("^provision: cannot read the credentials: .*Not a directory$",
        refused("file", { store = store() .. "/below" }).message)
      assert.equal(0, #e:requests())
      assert(provision { store = store(), anew = true })
      assert(provision { store = store() })
    end)

    it("keeps credentials that the server has ceased to take, until told to provision anew", function()
      local kept = assert(provision { store = store() })
      e:delete_device(kept.token)
      local dev <close> = tb.device { url = e.url, token = kept.token }
      assert.equal(401, select(2, dev:send_telemetry { a = 1 }).status)
      assert.same(kept, provision { store = store() })
      local new = assert(provision { store = store(), anew = true })
      local again <close> = tb.device { url = e.url, token = new.token }
      assert(again:send_telemetry { a = 1 })
    end)

    it("hands out in the error what it could not keep, for the server gives it once", function()
      e:provision_profile { key = "K3Y", secret = "S3CRET", strategy = "CHECK_PRE_PROVISIONED" }
      local token = e:create_device { name = "pre" }
      e:fault { path = "/provision", how = "delay", seconds = 0.3, count = 1 }
      local task = tb.spawn(function() return provision { device_name = "pre", store = store() } end)
      while not io.popen("ls -A " .. directory):read "a":find "credentials" do tb.sleep(0.01) end
      scratch.remove(directory)
      local _, credentials, err = task:join()
      os.execute("mkdir " .. directory)
      assert.is_nil(credentials)
      assert.equal("file", err.kind)
      assert.matches("^provision: the credentials are in this error's field 'credentials', nowhere else: ", err.message)
      assert.is_nil(err.message:find(token, 1, true))
      assert.same({ credentials_type = "ACCESS_TOKEN", token = token }, err.credentials)
    end)

    it("narrows who may read a file that stood there", function()
      io.open(store(), "w"):write("{}"):close()
      os.execute("chmod 644 " .. store())
      assert(provision { store = store(), anew = true })
      assert.equal("600", mode())
    end)

    it("leaves nothing behind when the server refuses", function()
      refused("not_found", { secret = "wrong", store = store() })
      assert.equal("", io.popen("ls -A " .. directory):read "a")
    end)
  end)
end)
