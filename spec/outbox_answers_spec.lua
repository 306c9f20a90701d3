-- What becomes of a record by each answer; the guide says the same.
local answers = require "thingsboard.outbox.answers"
local manual = require "spec.support.manual"

describe("the guide", function()
  it("shows what becomes of a record, as the sender decides it", function()
    local rows = {}
    for _, row in ipairs(answers.rows) do
      rows[#rows + 1] = ("| %s | %s | %s |"):format(row.said, row.becomes, row.counter)
    end
    assert.same(rows, manual.rows("losing-nothing",
      "| the server or the disk says | what becomes of the record | what tells of it |"))
    local found = {}
    for _, row in ipairs(answers.rows) do
      for _, status in ipairs(row.statuses or {}) do
        found[status] = answers.action { kind = "http", status = status, message = "" }
        assert.equal(row.action, found[status])
        assert.truthy(row.said:find(tostring(status), 1, true))
      end
    end
    assert.same({ [400] = "refused", [401] = "ended", [403] = "refused", [404] = "ended", [413] = "too_large",
      [415] = "refused", [429] = "limited", [500] = "refused" }, found)
  end)
end)

describe("the sender", function()
  local function action(kind, status, said)
    local message = ("post: failed (status %d)%s"):format(status, said)
    return answers.action { kind = kind, status = status, message = message }
  end

  it("takes for a limit what speaks of one, and 413 and 429 whoever says them", function()
    for _, said in ipairs { ": Rate limits reached!", ": Too many requests", ": Quota used up" } do
      assert.equal("limited", action("http", 500, said))
      assert.equal("limited", action("http", 400, said))
      assert.equal("outage", action("http", 503, said))
      assert.equal("ended", action("http", 401, said))
    end
    assert.equal("refused", action("http", 500, ": no such limit"))
    assert.equal("refused", answers.action { kind = "http", status = 500, message = "rate limit (status 500)" })
    for status, wanted in pairs { [413] = "too_large", [429] = "limited", [400] = "outage", [404] = "outage" } do
      assert.equal(wanted, action("answer", status, ""))
    end
    assert.equal("outage", answers.action { kind = "timeout", message = "" })
    assert.equal("closed", answers.action { kind = "closed", message = "" })
    assert.equal("passed", answers.action())
  end)

  it("finds unclear what a 500 without words means, or with those of its status", function()
    for said, is_unclear in pairs {
      ["(status 500)"] = true, ["(status 500): Internal Server Error"] = true, ["(status 500): no"] = false,
      ["(status 500): Internal Server Error: no"] = false, ["(status 400)"] = false, [""] = false,
    } do
      assert.equal(is_unclear, answers.is_unclear { message = "post: failed " .. said }, said)
    end
  end)
end)
