--- Says what is public and not documented, and what is written from the comments and stale:
-- lua5.4 packaging/manual/check.lua
local public = require "packaging.manual.public"
local samples = require "packaging.manual.samples"

local complaints = {}

local function complain(format, ...) complaints[#complaints + 1] = format:format(...) end

local documented = {}
for _, entry in ipairs(public.functions()) do
  documented[entry.class .. "." .. entry.name] = true
  if entry.text == "" then complain("%s has no description", entry.call) end
  if not (samples[entry.call] or ""):find(entry.name, 1, true) then
    complain("%s has no example in packaging/manual/samples.lua", entry.call)
  end
  local names = {}
  for _, param in ipairs(entry.params) do
    names[param.name] = true
    if param.doc == "" and param.type ~= "table" and param.name ~= "seconds" and param.name ~= "id"
      and param.name ~= "method" and param.name ~= "body" then
      complain("%s: the parameter %s has no description", entry.call, param.name)
    end
  end
  for name in entry.parameters:gmatch "[%w_.]+" do
    if not names[name] then complain("%s: the parameter %s is not documented", entry.call, name) end
  end
end

local plain = { version = true, null = true }

local tb = require "thingsboard"
for name in pairs(tb) do
  if not plain[name] and not documented["thingsboard." .. name] then complain("tb.%s is not documented", name) end
end
for class, methods in pairs { ["thingsboard.device"] = require "thingsboard.device" } do
  for name in pairs(methods) do
    if not name:find "^__" and name ~= "new" and not documented[class .. "." .. name] then
      complain("%s:%s is not documented", class, name)
    end
  end
end

for _, library in ipairs(public.c_libraries()) do
  for _, entry in ipairs(library.functions) do
    local comment = entry.comment or ""
    local text, name = comment:match "^(.-)%s*@", comment:match "@function ([%w_:]+)"
    if not text or text == "" or not name then
      complain("%s: %s has no comment with @function", entry.file, entry.name or comment)
    elseif entry.name and name:gsub("^.*:", "") ~= entry.name then
      complain("%s: the comment of %s names %s", entry.file, entry.name, name)
    end
  end
end

for _, pair in ipairs(public.options()) do
  for _, option in ipairs(pair[2]) do
    if not option.doc or option.doc == "" then complain("option %s of %s is not documented", option.name, pair[1]) end
  end
end

-- Kinds of errors, where they are made; the command has some of its own.
local kinds = {}
for _, kind in ipairs(public.error_kinds()) do kinds[kind[1]] = true end
for path in io.popen("find lua -name '*.lua' ! -path '*/command/*'"):lines() do
  local file <close> = assert(io.open(path))
  local text = file:read "a"
  for kind in text:gmatch 'errors%.new%(%s*"([%w_]+)"' do
    if not kinds[kind] then complain("%s: the kind %s is not listed in the head of error.lua", path, kind) end
  end
end

local folder = os.tmpname()
os.remove(folder)
assert(os.execute(("mkdir '%s'"):format(folder)))
for _, written in ipairs {
  { "types.lua", "packaging/types/", "types" }, { "man.lua", "packaging/manual/thingsboard.1", "man" },
  { "options.lua", "packaging/manual/guide/options.md", "man" },
} do
  local writer, path, target = table.unpack(written)
  assert(os.execute(("%s packaging/manual/%s '%s/%s'"):format(arg[-1], writer, folder, writer)))
  if not os.execute(("diff -r %s '%s/%s' >&2"):format(path, folder, writer)) then
    complain("%s is stale: make %s", path, target)
  end
end
os.execute(("rm -r '%s'"):format(folder))

for _, complaint in ipairs(complaints) do io.stderr:write(complaint, "\n") end
os.exit(#complaints == 0, true)
