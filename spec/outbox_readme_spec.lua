-- What the README says of the outbox is what the code has.
local answers = require "thingsboard.outbox.answers"
local options = require "thingsboard.outbox.options"
local readme = require "spec.support.readme"

describe("the README", function()
  it("shows every option of an outbox with its default", function()
    assert.same(readme.options(options), readme.rows "| option of `dev:outbox` | default | what it does |")
  end)

  it("shows what becomes of a record, as the sender decides it", function()
    assert.same(readme.answers(answers.rows),
      readme.rows "| the server or the disk says | what becomes of the record | what tells of it |")
    for _, row in ipairs(answers.rows) do
      for _, status in ipairs(row.statuses or {}) do
        local err = status ~= 200 and { kind = "http", status = status, message = "" } or nil
        assert.equal(row.action, answers.action(err))
        assert.truthy(row.said:find(tostring(status), 1, true))
      end
    end
  end)
end)
