local backoff = require "thingsboard.http.backoff"

describe("backoff", function()
  it("waits at random below a ceiling that doubles up to its cap", function()
    local pause = backoff.new(1, 10)
    for _, ceiling in ipairs { 1, 2, 4, 8, 10, 10 } do
      local wait = pause:next()
      assert.is_true(wait >= 0 and wait <= ceiling)
    end
  end)

  it("begins again after a success", function()
    local pause = backoff.new(1, 1000)
    for _ = 1, 9 do pause:next() end
    pause:reset()
    assert.is_true(pause:next() <= 1)
  end)

  it("uses all of the room: two that failed together do not come back together", function()
    local low, high = 0, 0
    for _ = 1, 200 do
      local wait = backoff.new(1, 1):next()
      if wait < 0.25 then low = low + 1 elseif wait > 0.75 then high = high + 1 end
    end
    assert.is_true(low > 20 and high > 20)
  end)

  it("doubles its ceiling, and is over once it is reset", function()
    local waits, ceilings = backoff.new(1, 10), {}
    assert.is_true(waits:is_over())
    for n = 1, 6 do
      waits:next()
      ceilings[n] = waits.ceiling
      assert.is_false(waits:is_over())
    end
    assert.same({ 2, 4, 8, 10, 10, 10 }, ceilings)
    assert.is_false(waits.least)
    waits.least = 4
    waits:reset()
    assert.is_true(waits:is_over())
    assert.is_false(waits.least)
  end)
end)
