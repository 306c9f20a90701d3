--- Writes the types for editors, as LuaCATS comments, from what is public: lua5.4 packaging/manual/types.lua FOLDER
local public = require "packaging.manual.public"

-- What LDoc's types cannot say.
local returned = {
  ["dev:rpc_requests"] = { "thingsboard.rpc_requests" },
  ["dev:attribute_updates"] = { "thingsboard.attribute_updates" },
  ["dev:request_attributes"] = { "thingsboard.attributes?", "thingsboard.error?" },
  ["dev:outbox"] = { "thingsboard.outbox?", "thingsboard.error?" },
  ["tb.device"] = { "thingsboard.device", "thingsboard.error?" }, -- nil only with `token_file`
  ["tb.provision"] = { "thingsboard.credentials?", "thingsboard.error?" },
  ["outbox:stats"] = { "thingsboard.outbox.stats" },
  ["outbox:rejected"] = { "thingsboard.outbox.rejected[]?", "thingsboard.error?" },
  ["dev:send_rpc"] = { "any", "thingsboard.error?" },
  ["task:join"] = { "true?", "any" },
  ["loop_module.default"] = { "thingsboard.loop" },
  ["tb.on_signal"] = { "{ close: fun(self: any) }" },
}
local parameter_types = {
  ["outbox:drain given"] = "thingsboard.options.drain",
  ["dev:attribute_updates keys"] = "string[]",
  ["dev:serve_rpc handlers"] = "table<string, fun(params: any, request: thingsboard.rpc_request): any>",
  ["dev:listen listener"] = "fun(status: integer?, err: thingsboard.error?)",
  ["tb.on_signal handler"] = "fun(name: string)",
  ["tb.on_error handler"] = "fun(task: thingsboard.task, message: string)",
}

local HEAD = [[
---@meta thingsboard
-- Written by packaging/manual/types.lua from the comments in lua/: `make types` writes it anew.

---What an error is: one of these words in its field `kind`.
]]

local SHAPES = [[

---What is returned behind nil when the world fails.
---@class thingsboard.error
---@field kind thingsboard.error_kind
---@field message string what is wrong and what may help
---@field retryable boolean the same call may succeed later
---@field status? integer of an answer
---@field code? string libcurl's name of the error
---@field credentials? thingsboard.credentials what `provision` could not keep

---@class thingsboard.attributes
---@field client table<string, any>
---@field shared table<string, any>

---@class thingsboard.credentials
---@field credentials_type string
---@field token? string
---@field certificate? string
---@field client_id? string
---@field username? string
---@field password? string

---@class thingsboard.outbox.stats
---@field records integer that wait
---@field unconfirmed integer that are sent, and not yet shown to be stored
---@field bytes integer that wait
---@field attributes integer that wait
---@field sent table<string, integer> records, attributes, posts and more since it was opened
---@field lost table<string, integer> records by cause, since the file was made
---@field trouble? string why the disk cannot be written
---@field err? thingsboard.error the last error of sending, if the last post failed
---@field in_doubt integer that were refused alone, and are tried again
---@field limits? { points: integer?, posts: number? } what the server was found to take
---@field confirm boolean|string whether the server shows what is stored, or why it does not

---@class thingsboard.outbox.rejected
---@field body string JSON text of a list of records
---@field reason string the server's words
---@field at integer milliseconds since 1970

---The iterator over RPC requests.
---@class thingsboard.rpc_requests
---@field error? thingsboard.error why the loop ended by itself
---@field close fun(self: thingsboard.rpc_requests)
---@overload fun(): thingsboard.rpc_request

---The iterator over the values of shared attributes, and the keys that were deleted.
---@class thingsboard.attribute_updates
---@field error? thingsboard.error why the loop ended by itself
---@field close fun(self: thingsboard.attribute_updates)
---@overload fun(): table<string, any>, string[]

---What `apply` is called with.
---@class thingsboard.package
---@field title string
---@field version string
---@field tag? string
---@field size integer bytes
---@field path string of the verified file

---@class (exact) thingsboard.options.current
---@field title string
---@field version string

---@class (exact) thingsboard.options.drain
---@field deadline? number seconds after which it gives up

---An RPC request of the server.
---@class thingsboard.rpc_request
---@field id integer
---@field method string
---@field params any
local thingsboard_rpc_request = {}

---A device: the endpoints of the server's device API, a method each.
---@class thingsboard.device
local thingsboard_device = {}

---Records and attributes that are kept on disk until the server has them.
---@class thingsboard.outbox
local thingsboard_outbox = {}

---@class thingsboard.task
local thingsboard_task = {}

---The loop that everything waits in.
---@class thingsboard.loop
local thingsboard_loop = {}

---@class thingsboard.loop_module
local thingsboard_loop_module = {}

---@class thingsboard
---@field version string
---@field null any JSON's null
local thingsboard = {}
]]

local names = {
  ["function"] = "function", text = "string", iterator = "function", device = "thingsboard.device",
  outbox = "thingsboard.outbox", task = "thingsboard.task", host = "table",
}

-- A type of an option as LuaCATS writes it; see thingsboard.check.
local option_types = {
  ["non-empty string"] = "string", text = "string", ["text or false"] = "string|false",
  ["positive integer"] = "integer", ["non-negative integer"] = "integer", ["positive number"] = "number",
  age = "number", ["function"] = "function", string = "string", boolean = "boolean", table = "table",
  integer = "integer",
}

local function option_type(wanted)
  local kind = wanted:gsub("!$", "")
  if option_types[kind] then return option_types[kind] end
  local texts = {}
  for text in kind:gmatch "[^|]+" do texts[#texts + 1] = ("%q"):format(text) end
  return table.concat(texts, "|")
end

local function type_of(name, doc)
  local maybe, bare = name:match "^(%??)(.*)$"
  if bare == "table" and doc:find "^the error" then return "thingsboard.error" .. maybe end
  return bare:gsub("[%w_]+", names) .. maybe
end

-- Tables of which more is known.
local option_classes = {
  url_options = "thingsboard.options.elsewhere", outbox = "thingsboard.outbox", current = "thingsboard.options.current",
  client = "string[]", shared = "string[]", progress = "fun(received: integer, total: integer?)",
  apply = 'fun(package: thingsboard.package): boolean|"again"|nil, string?, any',
}

local function write_options(out, name, list)
  out(("\n---@class (exact) thingsboard.options.%s"):format(name))
  for _, option in ipairs(list) do
    local default = option.default
    if type(default) == "string" then default = ("%q"):format(default) end
    local kind = option_classes[option.name] or option_type(option.type)
    out(("---@field %s%s %s %s%s"):format(option.name, option.type:find "!$" and "" or "?", kind, option.doc,
      default ~= nil and ("; default: %s"):format(default) or ""))
  end
end

local function results(entry)
  if returned[entry.call] then return returned[entry.call] end
  local list, fails = {}, false
  for _, result in ipairs(entry.returns) do fails = fails or result.case > 1 end
  for _, result in ipairs(entry.returns) do
    if result.case == 1 then
      local kind = type_of(result.type, result.doc)
      if kind == "boolean" and result.doc:find "^true" then kind = "true" end
      list[#list + 1] = fails and not kind:find "%?$" and kind ~= "any" and kind .. "?" or kind
    end
  end
  if fails then list[#list + 1] = "thingsboard.error?" end
  return list
end

local function write_function(out, entry)
  out ""
  out("---" .. entry.text:gsub("\n", "\n---"))
  local parameters = {}
  for _, param in ipairs(entry.params) do
    local optional = param.type:find "^%?" ~= nil or param.name ~= "..." and param.doc:find "nil goes as null" ~= nil
    local kind = param.options and "thingsboard.options." .. param.options
      or parameter_types[entry.call .. " " .. param.name] or type_of(param.type:gsub("^%?", ""), param.doc)
    parameters[#parameters + 1] = param.name
    local doc = param.doc:gsub("see `[%w_.]+`;?%s*", "")
    out((("---@param %s%s %s %s"):format(param.name, optional and "?" or "", kind, doc):gsub("%s+$", "")))
  end
  for _, kind in ipairs(results(entry)) do out("---@return " .. kind) end
  local owner = entry.class:gsub("%.", "_")
  out(("function %s%s%s(%s) end"):format(owner, entry.call:find ":" and ":" or ".", entry.name,
    table.concat(parameters, ", ")))
end

-- Lists that others hold whole.
local parts = { connection = true, credentials = true }

local function library()
  local lines = {}
  local function out(line) lines[#lines + 1] = line end
  lines[1] = HEAD:gsub("\n$", "")
  out "---@alias thingsboard.error_kind"
  for _, kind in ipairs(public.error_kinds()) do out(("---| %q"):format(kind[1]) .. " # " .. kind[2]) end
  out((SHAPES:gsub("\n$", "")))
  for _, pair in ipairs(public.options()) do
    if not parts[pair[1]] then write_options(out, pair[1], pair[2]) end
  end
  for _, entry in ipairs(public.functions()) do write_function(out, entry) end
  out "\nreturn thingsboard\n"
  return table.concat(lines, "\n")
end

local function write(path, text)
  local file <close> = assert(io.open(path, "w"))
  assert(file:write(text))
end

local folder = arg[1]
os.execute(("mkdir -p '%s/library/thingsboard/adapter'"):format(folder))
write(folder .. "/library/thingsboard.lua", library())
write(folder .. "/library/thingsboard/loop.lua", "---@meta thingsboard.loop\n\n---@type thingsboard.loop_module\n"
  .. "local loop_module\n\nreturn loop_module\n")
for _, name in ipairs { "cqueues", "luv", "copas", "eco" } do
  local parameter = name == "cqueues" and "controller" or ""
  write(("%s/library/thingsboard/adapter/%s.lua"):format(folder, name), ([[
---@meta thingsboard.adapter.%s

local adapter = {}

---From now on a call in a coroutine of the loop suspends that coroutine alone.
%sfunction adapter.attach(%s) end

return adapter
]]):format(name, parameter ~= "" and "---@param controller any\n" or "", parameter))
end
write(folder .. "/config.json", '{\n  "name": "thingsboard",\n  "words": ["thingsboard"],\n  "settings": {}\n}\n')
