-- In libuv's loop.
local child = require "spec.support.child"
local hosts = require "spec.support.hosts"
local uv = hosts.require("luv", "lua-luv")

hosts.behaves {
  name = "luv",
  attach = function() require "thingsboard.adapter.luv".attach() end,
  go = function(body) coroutine.wrap(body)() end,
  run = function() uv.run() end,
  tick = function()
    local thread, timer = coroutine.running(), uv.new_timer()
    timer:start(10, 0, function()
      timer:close()
      assert(coroutine.resume(thread))
    end)
    coroutine.yield()
  end,
  readable = function(socket)
    local thread, poll = coroutine.running(), uv.new_poll(socket:getfd())
    poll:start("r", function()
      poll:close()
      assert(coroutine.resume(thread))
    end)
    coroutine.yield()
  end,
}

describe("in luv", function()
  local loop = require "thingsboard.loop"
  local tb = require "thingsboard"

  it("a loop that a coroutine closes closes its connections, too", function()
    require "thingsboard.adapter.luv".attach()
    local closed = loop.default()
    coroutine.wrap(function()
      tb.sleep(0.05)
      closed:close()
    end)()
    uv.run()
    assert.error_matches(function() closed:pollfd() end, "closed")
  end)

  it("what a coroutine raises after a call reaches luv, with a traceback", function()
    local told = child.run [[
      require "thingsboard.adapter.luv".attach()
      coroutine.wrap(function()
        require "thingsboard".sleep(0.01)
        error "raised here"
      end)()
      require "luv".run()
    ]]
    assert.matches("%(command line%):4: raised here\nstack traceback:\n", told)
  end)

  it("a coroutine that has been woken may be closed by another", function()
    require "thingsboard.adapter.luv".attach()
    local went_on
    local doomed = coroutine.create(function()
      tb.sleep(0.05)
      went_on = true
    end)
    local first = coroutine.create(function()
      tb.sleep(0.05)
      assert(coroutine.close(doomed))
    end)
    coroutine.resume(first)
    coroutine.resume(doomed)
    uv.run()
    assert.equal("dead", coroutine.status(first))
    assert.is_nil(went_on)
    assert.is_false(loop.default():working())
    loop.default():close()
  end)
end)
