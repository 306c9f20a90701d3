-- What the README says of the outbox is what the code has.
local options = require "thingsboard.outbox.options"
local readme = require "spec.support.readme"

describe("the README", function()
  it("shows every option of an outbox with its default", function()
    assert.same(readme.options(options), readme.rows "| option of `dev:outbox` | default | what it does |")
  end)
end)
