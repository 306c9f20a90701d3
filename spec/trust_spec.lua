-- Which servers a device trusts, and what it sends to whom. Devices share a connection only with the same TLS options.
local child = require "spec.support.child"
local emulator = require "spec.support.emulator"
local scratch = require "spec.support.scratch"
local tb = require "thingsboard"

describe("a device", function()
  local e
  local opened = {}

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)
  before_each(function() e:clear() end)
  after_each(function()
    for n, dev in pairs(opened) do
      dev:close()
      opened[n] = nil
    end
  end)

  local function post(options)
    options.url, options.token = options.url or e.tls_url, e.token
    local dev = tb.device(options)
    opened[#opened + 1] = dev
    local ok, err = dev:send_telemetry { a = 1 }
    return ok, err, dev
  end

  local function refused(code, options)
    local before = #e:requests()
    local ok, err = post(options)
    assert.is_nil(ok)
    assert.equal("tls", err.kind)
    assert.equal(code, err.code)
    assert.is_false(err.retryable)
    assert.equal(before, #e:requests())
  end

  it("trusts the system's authorities, or the ones that are named", function()
    refused("PEER_FAILED_VERIFICATION", {})
    refused("PEER_FAILED_VERIFICATION", { ca_path = "/etc/ssl/certs" })
    assert(post { ca_file = e.ca_file })
    assert(post { ca_file = e.ca_file, ca_path = "/etc/ssl/certs" })
  end)

  it("says which host the certificate is not for", function()
    local liar <close> = emulator.start { certificate = "other_name" }
    local ok, err = post { url = liar.tls_url, ca_file = liar.ca_file }
    assert.is_nil(ok)
    assert.same({ "tls", "PEER_FAILED_VERIFICATION", false }, { err.kind, err.code, err.retryable })
    local words = ("the certificate is not for %s: check the url's host"):format(liar.tls_url:match "//(.*)$")
    assert.truthy(err.message:find(words, 1, true), err.message)
  end)

  it("does not take an authority for another one of the same name, and says so", function()
    local other <close> = emulator.start()
    local ok, err = post { url = other.tls_url, ca_file = e.ca_file }
    assert.is_nil(ok)
    assert.same({ "tls", false }, { err.kind, err.retryable }, err.message)
    assert.is_nil(err.message:find("speaks TLS", 1, true), err.message)
  end)

  it("does not show a proxy's password", function()
    for _, url in ipairs { e.url, e.tls_url } do
      local ok, err = post { url = url, proxy = "http://somebody:S3CRET@127.0.0.1:9" }
      assert.is_nil(ok)
      assert.equal("network", err.kind)
      assert.is_nil(err.message:find("S3CRET", 1, true))
    end
    assert.equal(0, #e:requests())
    e:fault { how = "status", status = 407, body = "who is somebody:S3CRET?", count = 1 }
    local _, err = post { url = "http://nowhere.invalid", proxy = e.url:gsub("//", "//somebody:S3CRET@") }
    assert.matches("%(status 407%): who is %*%*%*%?$", err.message)
  end)

  it("can demand a public key besides", function()
    assert(post { ca_file = e.ca_file, pinned_key = e.pin })
    refused("PEER_FAILED_VERIFICATION", { pinned_key = e.pin })
    refused("SSL_PINNEDPUBKEYNOTMATCH", { ca_file = e.ca_file, pinned_key = "sha256//" .. ("A"):rep(43) .. "=" })
    refused("SSL_PINNEDPUBKEYNOTMATCH", { verify = false, pinned_key = "sha256//" .. ("A"):rep(43) .. "=" })
  end)

  it("does not inherit another device's trust by sharing its connection", function()
    local _, _, careless = assert(post { verify = false })
    refused("PEER_FAILED_VERIFICATION", {})
    local _, _, careful = assert(post { ca_file = e.ca_file })
    refused("SSL_PINNEDPUBKEYNOTMATCH", { ca_file = e.ca_file, pinned_key = "sha256//" .. ("A"):rep(43) .. "=" })
    assert(careless:send_telemetry { a = 2 })
    assert(careful:send_telemetry { a = 2 })
    local connections = {}
    for _, request in ipairs(e:requests()) do connections[request.connection] = true end
    assert.truthy(next(connections, (next(connections))))
  end)

  it("needs the files that are named", function()
    local ok, err = post { ca_file = "/nonexistent" }
    assert.is_nil(ok)
    assert.equal("tls", err.kind)
    ok, err = post { ca_file = e.ca_file, client_cert = "/nonexistent" }
    assert.is_nil(ok)
    assert.equal("tls", err.kind)
  end)

  -- A key with the pass phrase OPEN-SESAME, and its certificate.
  local function with_key(password)
    return {
      ca_file = e.ca_file, client_cert = "spec/data/client_cert.pem", client_key = "spec/data/client_key.pem",
      client_key_password = password,
    }
  end

  it("loads a key whose pass phrase is given, which no text shows", function()
    local ok, err, dev = post(with_key "S3CRET-PHRASE")
    assert.is_nil(ok)
    assert.same({ "tls", "SSL_CERTPROBLEM", false }, { err.kind, err.code, err.retryable })
    assert.is_nil((err.message .. tostring(dev)):find("S3CRET", 1, true))
    e:fault { path = "/telemetry", how = "status", status = 400, body = "what of S3CRET-PHRASE?", count = 1 }
    ok, err = post { url = e.url, client_cert = "x", client_key_password = "S3CRET-PHRASE" }
    assert.is_nil(ok)
    assert.truthy(err.message:find("what of ***?", 1, true), err.message)
    assert(post(with_key "OPEN-SESAME"))
  end)

  it("never waits for somebody to type a pass phrase", function()
    local folder = scratch.new()
    finally(function() scratch.remove(folder) end)
    local file <close> = assert(io.open(folder .. "/post.lua", "w"))
    file:write(([[
      local tb = require "thingsboard"
      local _, err = tb.device({
        url = %q, token = %q, ca_file = %q,
        client_cert = "spec/data/client_cert.pem", client_key = "spec/data/client_key.pem",
      }):send_telemetry { a = 1 }
      print(err)
    ]]):format(e.tls_url, e.token, e.ca_file))
    file:flush()
    -- On a terminal of its own, at which nobody types.
    local command = "sleep 3 | timeout 20 script -qec 'lua5.4 %s/post.lua' /dev/null 2>&1"
    local process <close> = assert(io.popen(command:format(folder)))
    local said = process:read "a"
    assert.truthy(said:find("client_key_password if the key has a pass phrase", 1, true), said)
    assert.is_nil(said:find("Enter", 1, true), said)
  end)

  it("takes no proxy and no password from the environment", function()
    local home = scratch.new()
    finally(function() scratch.remove(home) end)
    local netrc <close> = assert(io.open(home .. "/.netrc", "w"))
    netrc:write "machine 127.0.0.1 login somebody password something\n"
    netrc:flush()
    local proxy = "http://127.0.0.1:9"
    local said = child.run(([[
      local tb = require "thingsboard"
      assert(tb.device({ url = %q, token = %q }):send_telemetry { a = 1 })
      assert(tb.device({ url = %q, token = %q, ca_file = %q }):send_telemetry { a = 1 })
      print "sent"
    ]]):format(e.url, e.token, e.tls_url, e.token, e.ca_file), {
      HOME = home, http_proxy = proxy, https_proxy = proxy, HTTPS_PROXY = proxy, ALL_PROXY = proxy, all_proxy = proxy,
    })
    assert.equal("sent\n", said)
    for _, request in ipairs(e:requests()) do assert.is_nil(request.headers.authorization) end
  end)
end)
