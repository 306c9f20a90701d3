--- Writes the guide's page of options from the lists in lua/: lua5.4 packaging/manual/options.lua FILE
local options = require "thingsboard.options"
local shown = require "packaging.manual.shown"

-- In the order of the page: what takes them, the list, what stands behind the table.
local lists = {
  { "tb.device", options.device, "No redirect is followed, no other protocol is spoken, no `.netrc` is read. "
    .. "`dev:close()` ends the calls in flight;\nso do `local dev <close> = ...` and the garbage collector." },
  { "dev:outbox", require "thingsboard.outbox.options",
    "[Losing nothing](losing-nothing.md) says how they work together." },
  { "dev:updates", options.updates, "[Updates](updates.md) says what `apply` returns." },
  { "tb.provision", options.credentials,
    "And those of the connection: all of `tb.device` but `token` and `token_file`." },
  { "dev:request_attributes", options.request_attributes },
  { "dev:attribute_updates", options.attribute_updates },
  { "dev:rpc_requests", options.rpc_requests, also = "dev:serve_rpc" },
  { "dev:claim", options.claim },
  { "dev:firmware", options.package, also = "dev:software" },
  { "thingsboard service", require "thingsboard.service.options",
    "And those of `tb.device`. [Service](service.md) shows them in a configuration." },
}

local lines = {
  "# Options", "",
  "<!-- Written by packaging/manual/options.lua from the lists of options: `make man` writes it anew. -->", "",
  "An option is a field of the table that a function takes. One that is unknown, missing or of another type raises an",
  "error at the script's line, which names it. Times are in seconds, sizes in bytes, unless the option says otherwise.",
}
local function out(line) lines[#lines + 1] = line end

for _, list in ipairs(lists) do
  local name, fields, behind = table.unpack(list)
  local also = list.also and " and " .. list.also or ""
  out ""
  out(("## %s%s"):format(name, also))
  out ""
  out "| option | type | default | what it does |"
  out "|---|---|---|---|"
  for _, option in ipairs(fields) do out(shown.row(option)) end
  if behind then
    out ""
    out(behind)
  end
end

local file <close> = assert(io.open(arg[1], "w"))
assert(file:write(table.concat(lines, "\n"), "\n"))
