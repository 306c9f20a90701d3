--- `thingsboard attributes`: gets, sets and watches attributes.
-- @module thingsboard.command.attributes
local context = require "thingsboard.command.context"
local options = require "thingsboard.command.options"
local tb = require "thingsboard"

local attributes = {
  usage = "attributes get|set|watch ...",
  help = [[
get [--client KEYS] [--shared KEYS]    prints attributes as {"client":{...},"shared":{...}}; KEYS as in a,b; all if none
set KEY=VALUE...                       sets client attributes; a value is JSON if it is valid JSON, else text
watch [-C COUNT] [-W SECONDS] [KEY...] prints the shared attributes, then each change, one JSON object per line;
                                       a deleted attribute is null]],
  options = {
    { name = "client", value = "KEYS", help = "names of client attributes, separated by commas" },
    { name = "shared", value = "KEYS", help = "names of shared attributes, separated by commas" },
    { name = "count", short = "C", value = "COUNT", help = "watch: end after this many lines" },
    { name = "wait", short = "W", value = "SECONDS", help = "watch: end after this time; exit code 5 if too few came" },
  },
}

local function list_of(text)
  if not text then return nil end
  local keys = {}
  for key in text:gmatch "[^,]+" do keys[#keys + 1] = key end
  return keys
end

local function get(self, arguments)
  if arguments[1] then options.misused "get takes no arguments: name attributes by --client a,b and --shared c" end
  local device = self:device()
  local values, err = context.asked(device.request_attributes, device, {
    client = list_of(self.given.client), shared = list_of(self.given.shared),
  })
  if not values then return context.fail(err) end
  context.print { client = values.client, shared = values.shared }
end

local function set(self, arguments)
  if not arguments[1] then options.misused "set what? KEY=VALUE..." end
  local ok, err = self:device():send_attributes(context.values_of(arguments))
  if not ok then return context.fail_given(err) end
end

local function watch(self, keys)
  self.endless = not self.given.count
  local device <close> = self:device()
  local left, came, err = self.given.count or math.huge, false, nil
  local function print_all()
    local updates = context.asked(device.attribute_updates, device, keys[1] and keys or nil)
    for values, deleted in updates, nil, nil, updates do
      for _, key in ipairs(deleted) do values[key] = tb.null end
      if next(values) ~= nil then
        context.print(values)
        came, left = true, left - 1
        if left == 0 then return end
      end
    end
    err = updates.error
  end
  local well, raised
  local watching = tb.spawn(function() well, raised = pcall(print_all) end)
  if not require("thingsboard.loop").default():wait(watching, self:deadline()) then
    watching:cancel()
    return (self.given.count or not came) and context.codes.nothing or context.codes.done
  end
  if not well then error(raised, 0) end
  if err then return context.fail(err) end
end

local actions = { get = get, set = set, watch = watch }

function attributes.run(self, arguments)
  local action = actions[table.remove(arguments, 1) or ""]
  if not action then options.misused "attributes what? get, set, or watch" end
  return action(self, arguments)
end

return attributes
