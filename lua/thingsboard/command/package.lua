--- What `thingsboard firmware` and `thingsboard software` share.
-- @module thingsboard.command.package
local attributes = require "thingsboard.ota.attributes"
local context = require "thingsboard.command.context"
local errors = require "thingsboard.error"
local options = require "thingsboard.command.options"
local process = require "thingsboard.process"

local STDERR <const> = 2
local WIDTH <const> = 50 -- of the bar

local CHUNK <const> = 256 * 1024 -- bytes

local package = {}

--- A function that draws a bar on a terminal; nil where the standard error is none.
function package.bar()
  if not process.is_terminal(STDERR) then return nil end
  return function(received, total)
    local full = total and total > 0 and received * WIDTH // total or 0
    io.stderr:write(("\r[%s%s] %d bytes"):format(("#"):rep(full), (" "):rep(WIDTH - full), received),
      received == total and "\n" or "")
  end
end

--- The subcommand for a kind of package.
-- @tparam string kind `"firmware"` or `"software"`
-- @treturn table
function package.subcommand(kind)
  local prefix <const> = attributes.prefixes[kind]
  local subcommand = {
    usage = kind .. " [--output FILE]",
    help = "Downloads the " .. kind .. " that is assigned to the device, verified, and prints what it is, as JSON. "
      .. "Without --output it only tells.",
    options = { { name = "output", short = "o", value = "FILE", help = "where it is to be" } },
  }
  function subcommand.run(self, arguments)
    if arguments[1] then options.misused("%s takes no arguments", kind) end
    local device = self:device()
    local values, err = device:request_attributes { shared = attributes.keys(prefix) }
    if not values then return context.fail(err) end
    local about = attributes.read(prefix, values.shared)
    if about.nonsense then
      context.complain(("%s: the shared attribute %s makes no sense"):format(kind, about.nonsense))
      return context.codes.other
    end
    if not about.title or not about.version then
      context.complain("no " .. kind .. " is assigned")
      return context.codes.nothing
    end
    if self.given.output and about.url then
      context.complain(("the %s is on another server, which `thingsboard update` fetches it from: %s"):format(kind,
        tostring(about.url)))
      return context.codes.refused
    elseif self.given.output then
      local ok, raised
      ok, raised, err = pcall(device[kind], device, {
        title = about.title, version = about.version, size = about.size, checksum = about.checksum,
        checksum_algorithm = about.checksum_algorithm, path = self.given.output,
        chunk_size = about.size and CHUNK, progress = package.bar(),
      })
      if not ok then
        context.complain((errors.text_of(raised):gsub("option '([%w_]+)'", "the shared attribute " .. prefix .. "%1")))
        return context.codes.other
      end
      if not raised then return context.fail(err) end
      about.path = self.given.output
    end
    context.print(about)
  end
  return subcommand
end

return package
