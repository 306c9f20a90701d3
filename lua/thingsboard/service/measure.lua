--- What the collectors share. A collector is a script of the service that is shipped with it; the configuration gives
-- it its options: `every` (seconds), `root` (where `/proc` and `/sys` are, for tests), and its own.
-- @module thingsboard.service.measure
local check = require "thingsboard.check"

local measure = {}

--- The text of a file.
-- @tparam string path
-- @treturn ?string nil when it cannot be read
function measure.read(path)
  local file <close> = io.open(path, "rb")
  return file and file:read "a"
end

--- A name as a part of a key.
function measure.key(name)
  return (name:gsub("[^%w]+", "_"))
end

--- Puts what a function measures, again and again.
-- @tparam table tb
-- @tparam table device
-- @tparam table options of the collector
-- @tparam table own the types of its own options, see `thingsboard.check`
-- @tparam number every seconds, where the options do not say
-- @tparam function take called with the options, `root` filled in; returns values by key
function measure.run(tb, device, options, own, every, take)
  local types = { every = "positive number", root = "text" }
  for name, wanted in next, own do types[name] = wanted end
  check.options("collector", options, types)
  local given = setmetatable({ root = options.root or "" }, { __index = options })
  while true do
    device:put(take(given)) -- refused where there is nothing; the outbox reports by itself that it is full or fails
    tb.sleep(options.every or every)
  end
end

return measure
