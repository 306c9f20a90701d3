--- Options that a piece of Lua misspells, found by its text alone: in tables that stand literally in a call. Checkers
-- of types report a wrong type and a missing option, but not a field too many.
local public = require "packaging.manual.public"

local lists = {}
for _, pair in ipairs(public.options()) do
  local names = {}
  for _, option in ipairs(pair[2]) do names[option.name] = true end
  lists[pair[1]] = names
end
lists.drain = { deadline = true }
local inside = { url_options = lists.elsewhere, current = { title = true, version = true } }

-- By the name of a function: the names that its arguments may have, by their place.
local known = { drain = { lists.drain } }
for _, entry in ipairs(public.functions()) do
  for place, param in ipairs(entry.params) do
    if param.options then
      known[entry.name] = known[entry.name] or {}
      known[entry.name][place] = assert(lists[param.options])
    end
  end
end

-- The code without what strings and comments say.
local function bare(code)
  local out, at = {}, 1
  while true do
    local from, _, opener = code:find("([%-%['\"])", at)
    if not from then break end
    out[#out + 1] = code:sub(at, from - 1)
    local behind
    if opener == "-" and code:find("^%-%-", from) then
      behind = select(2, code:find("^%-%-%[%[.-%]%]", from)) or select(2, code:find("^[^\n]*", from))
    elseif opener == "[" then
      behind = select(2, code:find("^%[%[.-%]%]", from))
    elseif opener ~= "-" then
      behind = from
      repeat behind = assert(code:find(opener, behind + 1, true)) until code:sub(behind - 1, behind - 1) ~= "\\"
    end
    out[#out + 1] = behind and (opener == "-" and " " or '""') or opener
    at = (behind or from) + 1
  end
  return table.concat(out) .. code:sub(at)
end

-- The parts of `{...}` or `(...)` between its commas.
local function parts(text)
  local list, depth, from = {}, 0, 2
  for at, char in text:gmatch "()([%(%){},;])" do
    if char:find "[({]" then
      depth = depth + 1
    elseif char:find "[)}]" then
      depth = depth - 1
    end
    if depth == 0 or depth == 1 and char:find "[,;]" then
      list[#list + 1] = text:sub(from, at - 1):match "^%s*(.-)%s*$"
      from = at + 1
    end
  end
  return list
end

local function search(found, call, text, names)
  for _, part in ipairs(parts(text)) do
    local name, value = part:match "^([%a_][%w_]*)%s*=%s*(.*)$"
    if name and not names[name] then
      found[#found + 1] = call .. ": " .. name
    elseif name and inside[name] and value:find "^%b{}$" then
      search(found, name, value, inside[name])
    end
  end
end

--- Lists the options that no function knows, as "outbox: max_size".
return function(code)
  local found = {}
  code = bare(code)
  for call, at in code:gmatch "[.:]([%a_][%w_]*)%s*()[({]" do
    local places = known[call]
    local given = places and (code:match("^%b{}", at) or code:match("^%b()", at))
    local arguments = given and (given:find "^{" and { given } or parts(given))
    for place, names in pairs(arguments and places or {}) do
      local argument = arguments[place]
      if argument and argument:find "^%b{}$" then search(found, call, argument, names) end
    end
  end
  return found
end
