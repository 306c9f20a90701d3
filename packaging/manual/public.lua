--- What is public, read from the comments in lua/: the types and the checks follow from it.
local public = {}

-- Where the public functions are: `owner` is how a script calls the table, `of` how its file does, `only` names those
-- that are public where others are not.
local places = {
  { class = "thingsboard", owner = "tb.", file = "init.lua", of = "thingsboard." },
  { class = "thingsboard", owner = "tb.", file = "device.lua", of = "device.", only = { "new" },
    renamed = { new = "device" } },
  { class = "thingsboard", owner = "tb.", file = "api/provision.lua", of = "@" },
  { class = "thingsboard", owner = "tb.", file = "api/derive_token.lua", of = "@" },
  { class = "thingsboard", owner = "tb.", file = "init.lua", of = "@" },
  { class = "thingsboard.device", owner = "dev:", file = "device.lua", of = "device:" },
  { class = "thingsboard.rpc_request", owner = "request:", file = "api/rpc_requests.lua", of = "request_type:" },
  { class = "thingsboard.outbox", owner = "outbox:", file = "outbox/init.lua", of = "outbox:",
    only = { "put", "attributes", "run", "drain", "sync", "stats", "rejected", "close" } },
  { class = "thingsboard.task", owner = "task:", file = "loop.lua", of = "task:", only = { "done", "join", "cancel" } },
  { class = "thingsboard.loop_module", owner = "loop_module.", file = "loop.lua", of = "loop.", only = { "default" } },
  { class = "thingsboard.loop", owner = "loop:", file = "loop.lua", of = "loop:",
    only = { "spawn", "sleep", "step", "run", "pollfd", "events", "timeout", "close" } },
}

local function read_file(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

local function includes(list, name)
  if not list then return true end
  for _, other in ipairs(list) do
    if other == name then return true end
  end
  return false
end

-- The blocks of comments that begin with three dashes, each with the line behind it.
local function blocks(text)
  local list, block = {}, nil
  for line in (text .. "\n"):gmatch "(.-)\n" do
    local first, more = line:match "^%s*%-%-%-%s?(.*)$", line:match "^%s*%-%-%s?(.*)$"
    if first and not block then
      block = { first }
    elseif block and more then
      block[#block + 1] = more
    elseif block then
      list[#list + 1] = { lines = block, code = line }
      block = nil
    end
  end
  return list
end

local function join(left, right) return left == "" and right or left .. " " .. right end

-- A block taken apart: `text`, `params` of `{ name, type, doc }`, `returns` of `{ case, type, doc }`, `name` if told.
local function parse(lines)
  local entry = { text = "", params = {}, returns = {} }
  local last -- what a line without a tag goes on with
  for _, line in ipairs(lines) do
    local tag, rest = line:match "^@(%S+)%s*(.*)$"
    local kind, case = (tag or ""):match "^(%a+)%[?(%d*)%]?"
    if tag == "tparam" then
      local type_name, name, doc = rest:match "^(%S+)%s+(%S+)%s*(.*)$"
      last = { name = name, type = type_name, doc = doc }
      entry.params[#entry.params + 1] = last
    elseif tag == "param" then
      local name, doc = rest:match "^(%S+)%s*(.*)$"
      last = { name = name, type = "any", doc = doc }
      entry.params[#entry.params + 1] = last
    elseif kind == "treturn" then
      local type_name, doc = rest:match "^(%S+)%s*(.*)$"
      last = { case = tonumber(case) or 1, type = type_name, doc = doc }
      entry.returns[#entry.returns + 1] = last
    elseif kind == "return" then
      last = { case = tonumber(case) or 1, type = "any", doc = rest }
      entry.returns[#entry.returns + 1] = last
    elseif tag == "function" then
      entry.name = rest
    elseif tag then
      last = {}
    elseif last then
      last.doc = join(last.doc or "", line)
    elseif line == "" then
      entry.text = entry.text .. "\n\n" -- a paragraph's end
    else
      entry.text = entry.text:find "\n$" and entry.text .. line or join(entry.text, line)
    end
  end
  entry.text = entry.text:gsub("%s+$", "")
  return entry
end

-- The options that a parameter takes, by the list that its text names.
local function options_of(param)
  local list = param.doc:match "see `options%.([%w_]+)`"
  return list or param.doc:find("see `thingsboard.outbox.options`", 1, true) and "outbox" or nil
end

local function collect(place, entries)
  for _, block in ipairs(blocks(read_file("lua/thingsboard/" .. place.file))) do
    local entry = parse(block.lines)
    local name
    if place.of == "@" then
      name = entry.name
    else
      local of = place.of:gsub("%p", "%%%0")
      name = block.code:match("^function " .. of .. "([%w_]+)%(")
    end
    if name and includes(place.only, name) then
      entry.parameters = block.code:match "%((.-)%)" or "" -- as the code has them
      entry.class, entry.file = place.class, place.file
      entry.name = place.renamed and place.renamed[name] or name
      entry.call = place.owner .. entry.name
      for _, param in ipairs(entry.params) do param.options = options_of(param) end
      entries[#entries + 1] = entry
    end
  end
end

--- The public functions: a list of `class`, `name`, `call` (as a script writes it), `text`, `params`, `returns`,
-- `parameters` as the code has them.
function public.functions()
  local entries = {}
  for _, place in ipairs(places) do collect(place, entries) end
  return entries
end

--- The lists of options by name, in the order of their names: `{ name, list }` each.
function public.options()
  local lists = {
    { "outbox", require "thingsboard.outbox.options" }, { "service", require "thingsboard.service.options" },
  }
  for name, list in pairs(require "thingsboard.options") do lists[#lists + 1] = { name, list } end
  table.sort(lists, function(left, right) return left[1] < right[1] end)
  return lists
end

--- The kinds of errors and what they mean, as error.lua's head lists them.
function public.error_kinds()
  local head = {}
  for line in read_file("lua/thingsboard/error.lua"):gmatch "(.-)\n" do
    local text = line:match "^%-%-%-?%s?(.*)$"
    if not text then break end
    head[#head + 1] = text
  end
  local kinds = {}
  for _, line in ipairs(head) do
    local kind, meaning = line:match "^%- `([%w_]+)`: (.*)$"
    kinds[#kinds + 1] = kind and { kind, meaning }
  end
  return kinds
end

-- The C libraries, by their folders; see the Makefile.
local libraries = {
  { "thingsboard.core", "csrc/core csrc/http csrc/json csrc/digest" }, { "thingsboard.spool", "csrc/spool" },
  { "thingsboard.process", "csrc/process" },
}

-- Adds the functions of a C file: those with a comment of three stars, and those that are registered without one.
local function collect_c(path, functions)
  local text, has_comment = read_file(path), {}
  for comment, behind in text:gmatch "/%*%*%*%s*(.-)%s*%*/()" do
    local c_name = text:match("^%s*static int ([%w_]+)%(lua_State", behind)
    if c_name then
      has_comment[c_name] = true
      local registered = text:match('{"([%w_]+)", ' .. c_name .. "}") -- some are set by themselves
      functions[#functions + 1] = { name = registered, file = path, comment = comment }
    end
  end
  for name, c_name in text:gmatch '{"([%a][%w_]*)", ([%w_]+)}' do
    if not has_comment[c_name] then functions[#functions + 1] = { name = name, file = path } end
  end
  return text
end

--- What C gives to Lua: a list of libraries, each with its `name`, its text `about` and a list `functions` of `file`,
-- `name`, by which it is registered, if so, and `comment`, nil where there is none.
function public.c_libraries()
  local list = {}
  for _, pair in ipairs(libraries) do
    local library = { name = pair[1], functions = {} }
    for path in io.popen(("ls $(find %s -name '*.c')"):format(pair[2])):lines() do
      local text = collect_c(path, library.functions)
      if path:find "/module%.c$" then library.about = text:match "^/%*%*%*%s*(.-)%s*%*/" end
    end
    list[#list + 1] = library
  end
  return list
end

return public
