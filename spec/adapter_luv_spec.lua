-- In libuv's loop.
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
