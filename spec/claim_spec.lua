local emulator = require "spec.support.emulator"
local tb = require "thingsboard"

describe("claim", function()
  local e, dev

  before_each(function()
    e = emulator.start()
    dev = tb.device { url = e.url, token = e.token }
  end)

  after_each(function()
    dev:close()
    e:stop()
  end)

  local function sent()
    local requests = e:requests()
    return requests[#requests].body
  end

  it("lets a user claim with the secret", function()
    assert.is_true(dev:claim { secret_key = "s3cret", duration_ms = 60000 })
    assert.truthy(sent():find('"secretKey":"s3cret"', 1, true))
    assert.truthy(sent():find('"durationMs":60000', 1, true))
    assert.equal("SUCCESS", e:claim_by_user(e.token, "s3cret"))
    assert.equal("CLAIMED", e:claim_by_user(e.token, "s3cret"))
  end)

  it("is spoilt by one wrong secret, and can be made again", function()
    for _, secret in ipairs { "wrong", "s3cret" } do
      assert.is_true(dev:claim { secret_key = "s3cret" })
      assert.equal(secret == "wrong" and "FAILURE" or "SUCCESS", e:claim_by_user(e.token, secret))
    end
  end)

  it("lets any user claim without one", function()
    assert.is_true(dev:claim())
    assert.equal("", sent())
    assert.equal("SUCCESS", e:claim_by_user(e.token))
  end)

  it("takes either option alone", function()
    assert.is_true(dev:claim { secret_key = "x" })
    assert.equal('{"secretKey":"x"}', sent())
    assert.is_true(dev:claim { duration_ms = 5000 })
    assert.equal('{"durationMs":5000}', sent())
    assert.is_true(dev:claim {})
  end)

  it("checks its options", function()
    assert.error_matches(function() dev:claim { secret = "x" } end, "claim: unknown option 'secret'")
    assert.error_matches(function() dev:claim { secret_key = 5 } end, "option 'secret_key' must be")
    assert.error_matches(function() dev:claim { duration_ms = -1 } end, "option 'duration_ms' must be")
    assert.error_matches(function() dev:claim { duration_ms = 1.5 } end, "option 'duration_ms' must be")
    assert.error_matches(function() dev:claim "x" end, "a table of options expected")
  end)

  it("says what the server says", function()
    e:delete_device(e.token)
    local ok, err = dev:claim()
    assert.is_nil(ok)
    assert.equal(401, err.status)
    assert.is_false(err.retryable)
  end)
end)
