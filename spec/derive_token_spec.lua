local hmac = require "openssl.hmac"
local command = require "spec.support.command"
local emulator = require "spec.support.emulator"
local scratch = require "spec.support.scratch"
local tb = require "thingsboard"

describe("a derived token", function()
  local function of_openssl(id, secret)
    local digits = hmac.new(secret, "sha256"):final(id):gsub(".", function(c) return ("%02x"):format(c:byte()) end)
    return digits:sub(1, 32)
  end

  it("is the HMAC-SHA256 of the id", function()
    for _, case in ipairs {
      { "94:83:c4:00:00:01", "a secret of the fleet" },
      { "1", ("k"):rep(16) }, { "1", ("k"):rep(64) },
      { ("serial "):rep(30), ("k"):rep(65) }, -- a key longer than a block is hashed first
    } do
      assert.equal(of_openssl(case[1], case[2]), tb.derive_token(case[1], case[2]))
    end
    -- RFC 4231, test case 6.
    assert.equal("60e431591ee0b67f0d8a26aacbf5b77f",
      tb.derive_token("Test Using Larger Than Block-Size Key - Hash Key First", ("\xaa"):rep(131)))
  end)

  it("is a token of the server's", function()
    local e <close> = emulator.start()
    local token = tb.derive_token("94:83:c4:00:00:01", "a secret of the fleet")
    e:create_device { token = token }
    local dev <close> = tb.device { url = e.url, token = token }
    assert(dev:send_telemetry { derived = true })
  end)

  it("identifies the command and the service, when their configuration says so", function()
    local e <close> = emulator.start()
    local directory = scratch.new()
    local function write(name, text)
      local file = assert(io.open(directory .. "/" .. name, "w"))
      file:write(text)
      file:close()
      os.execute(("chmod 600 %s/%s"):format(directory, name))
    end
    write("address", "94:83:c4:00:00:01\n")
    write("fleet", "a secret of the fleet\n")
    write("config.lua", ("return { url = %q, derive = { id_file = %q, secret_file = %q } }"):format(e.url,
      directory .. "/address", directory .. "/fleet"))
    local token = tb.derive_token("94:83:c4:00:00:01", "a secret of the fleet")
    e:create_device { token = token }
    local code, _, said = command.run { "send", "--config", directory .. "/config.lua", "derived=true" }
    assert.equal(0, code, said)
    assert.equal("derived", e:telemetry(token)[1].key)
    write("fleet", "short\n")
    code, _, said = command.run { "send", "--config", directory .. "/config.lua", "derived=true" }
    assert.equal(6, code)
    assert.equal(("thingsboard: %s/fleet: the secret must have at least 16 bytes\n"):format(directory), said)
    write("address", "\n94:83:c4:00:00:01\n")
    code, _, said = command.run { "send", "--config", directory .. "/config.lua", "derived=true" }
    assert.same({ 6, ("thingsboard: %s/address: it holds no hardware id\n"):format(directory) }, { code, said })
    os.remove(directory .. "/address")
    code, _, said = command.run { "send", "--config", directory .. "/config.lua", "derived=true" }
    assert.equal(6, code)
    assert.matches("/address: No such file or directory\n$", said)
    scratch.remove(directory)
  end)

  it("wants an id, and a secret that cannot be guessed", function()
    assert.error_matches(function() tb.derive_token("", "a secret of the fleet") end, "id must be a non%-empty string")
    assert.error_matches(function() tb.derive_token("1") end, "secret must be a non%-empty string")
    assert.error_matches(function() tb.derive_token("1", "short") end, "secret must have at least 16 bytes$")
  end)
end)
