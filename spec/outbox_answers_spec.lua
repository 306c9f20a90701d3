-- What the guide says becomes of a record is what the sender does.
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
    for _, row in ipairs(answers.rows) do
      for _, status in ipairs(row.statuses or {}) do
        local err = status ~= 200 and { kind = "http", status = status, message = "" } or nil
        assert.equal(row.action, answers.action(err))
        assert.truthy(row.said:find(tostring(status), 1, true))
      end
    end
  end)
end)
