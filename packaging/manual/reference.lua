--- Writes what LDoc reads: a module for each public class, with every option as a parameter of its own, and an example
-- of every function: lua5.4 packaging/manual/reference.lua FOLDER
local public = require "packaging.manual.public"
local samples = require "packaging.manual.samples"

local options = {}
for _, pair in ipairs(public.options()) do options[pair[1]] = pair[2] end

-- In the order of the sidebar: the class, the file, what it is.
local modules = {
  { "thingsboard", "tb", "The module: `local tb = require \"thingsboard\"`. Functions return what was asked for, or "
    .. "`true`; or nil and an error, see `error`. Mistakes of the program, such as an unknown option, raise." },
  { "thingsboard.device", "device", "A device: the endpoints of the server's device API, a method each. Every method "
    .. "blocks in a plain script and suspends in a task." },
  { "thingsboard.rpc_request", "request", "An RPC request of the server: `id`, `method`, `params`." },
  { "thingsboard.outbox", "outbox", "An outbox: records and attributes are kept on disk until the server has them." },
  { "thingsboard.task", "task", "A task, which `tb.spawn` starts." },
  { "thingsboard.loop_module", "loop_module", "The module of the loop: `require \"thingsboard.loop\"`." },
  { "thingsboard.loop", "loop", "The loop, for programs that have one of their own." },
}

local endpoints = {
  ["telemetry"] = "POST /api/v1/TOKEN/telemetry", ["attributes/updates"] = "GET /api/v1/TOKEN/attributes/updates",
  ["rpc/{id}"] = "POST /api/v1/TOKEN/rpc/ID", claim = "POST /api/v1/TOKEN/claim",
  firmware = "GET /api/v1/TOKEN/firmware", software = "GET /api/v1/TOKEN/software",
  provision = "POST /api/v1/provision",
}
local by_method = {
  send_attributes = "POST /api/v1/TOKEN/attributes", request_attributes = "GET /api/v1/TOKEN/attributes",
  rpc_requests = "GET /api/v1/TOKEN/rpc", send_rpc = "POST /api/v1/TOKEN/rpc",
}

local function endpoint_of(entry)
  local name = entry.text:match '%(device API, "([^"]+)"%)'
  return by_method[entry.name] or name and endpoints[name]
end

local types = { text = "string", age = "number", ["function"] = "function" }

local function type_of(wanted)
  local kind = wanted:gsub("!$", "")
  if types[kind] then return types[kind] end
  if kind:find "|" or kind == "https" then return "string" end
  return kind:match "%a+$" == "string" and "string" or kind:match "%a+$"
end

-- Bytes are told as a person does.
local function shown(value)
  if math.type(value) == "integer" and value >= 65536 and value % 1024 == 0 then
    return value % 1048576 == 0 and value // 1048576 .. " MiB" or value // 1024 .. " KiB"
  end
  return tostring(value)
end

-- The words that an option may be.
local function choices(wanted)
  if not wanted:find "|" then return "" end
  return (": \"%s\""):format(wanted:gsub("!$", ""):gsub("|", "\", \""))
end

local function write_param(out, param)
  local optional = param.type:find "^%?" and "[opt]" or ""
  local doc = param.doc:gsub("see `[%w_.]+`;?%s*", "")
  if param.options and doc == "" then doc = "options" end
  out(("-- @tparam%s %s %s %s"):format(optional, (param.type:gsub("^%?", "")), param.name, doc))
  for _, option in ipairs(param.options and options[param.options] or {}) do
    local tag = option.type:find "!$" and ""
      or option.default ~= nil and ("[opt=%s]"):format(shown(option.default)) or "[opt]"
    out(("-- @tparam%s %s %s.%s %s%s"):format(tag, type_of(option.type), param.name, option.name, option.doc,
      choices(option.type)))
  end
end

local function write_function(out, entry)
  out("\n--- " .. entry.text:gsub("\n", "\n-- "))
  local endpoint = endpoint_of(entry)
  if endpoint then out(("--\n-- Endpoint: `%s`"):format(endpoint)) end
  out("-- @function " .. entry.name)
  for _, param in ipairs(entry.params) do write_param(out, param) end
  for _, result in ipairs(entry.returns) do
    if result.type == "any" then
      out(("-- @return[%d] %s"):format(result.case, result.doc))
    else
      out(("-- @treturn[%d] %s %s"):format(result.case, result.type:gsub("^%?", ""), result.doc))
    end
  end
  out "-- @usage"
  for line in (samples[entry.call] .. "\n"):gmatch "(.-)\n" do out("-- " .. line) end
end

local function write(path, lines)
  local file <close> = assert(io.open(path, "w"))
  assert(file:write(table.concat(lines, "\n"), "\n"))
end

local folder = arg[1]
for at, module in ipairs(modules) do
  local class, name, about = table.unpack(module)
  local lines = { "--- " .. about, "-- @module " .. name }
  local function out(line) lines[#lines + 1] = line end
  for _, entry in ipairs(public.functions()) do
    if entry.class == class then write_function(out, entry) end
  end
  write(("%s/%02d_%s.lua"):format(folder, at, name), lines)
end

-- The C side: its comments are in LDoc's form already.
for at, library in ipairs(public.c_libraries()) do
  local lines = {}
  local function out(comment)
    lines[#lines + 1] = "--- " .. comment:gsub("\n", "\n-- "):gsub(" +\n", "\n") .. "\n"
  end
  out((library.about:gsub("@module [^\n]*%s*", "")) .. "\n\nA library in C behind `tb` and `device`. Scripts "
    .. "do not need it, and it may change with any release.\n@module " .. library.name)
  for _, entry in ipairs(library.functions) do out(entry.comment) end
  write(("%s/%02d_%s.lua"):format(folder, #modules + 1 + at, library.name), lines)
end

local errors = {
  "--- What is returned behind nil when the world fails: a table that prints well. Its fields are `kind` (a word of",
  "-- those below), `message`, `retryable` (the same call may succeed later), with `status` when the server answered",
  "-- and `code`, curl's name, when it did not. The guide *Errors by what to do* says more.", "--",
}
for _, kind in ipairs(public.error_kinds()) do errors[#errors + 1] = ("-- - `%s`: %s"):format(kind[1], kind[2]) end
errors[#errors + 1] = "-- @module error"
write(folder .. "/08_error.lua", errors)
