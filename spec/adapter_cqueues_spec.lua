-- In a controller of cqueues.
local hosts = require "spec.support.hosts"
local cqueues = hosts.require("cqueues", "lua-cqueues")

local controller

hosts.behaves {
  name = "cqueues",
  attach = function()
    controller = cqueues.new()
    require "thingsboard.adapter.cqueues".attach(controller)
  end,
  go = function(body) controller:wrap(body) end,
  run = function() assert(controller:loop()) end,
  tick = function() cqueues.sleep(0.01) end,
  readable = function(socket) cqueues.poll { pollfd = socket:getfd(), events = "r" } end,
  run_raises = true,
}
