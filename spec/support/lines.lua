-- Counts the lines of lua/ that the specs run, as a helper of busted: `busted --helper=spec/support/lines.lua`. The
-- table is printed at the end; what runs in other processes is not in it.
local busted = require "busted"

local reached = {} -- by file, a set of lines
local lines_of = setmetatable({}, { __mode = "k" }) -- the set for a function, or false

local function on_line(_, line)
  local running = debug.getinfo(2, "f").func
  local lines = lines_of[running]
  if lines == nil then
    local source = debug.getinfo(running, "S").source:match "^@(lua/thingsboard/.*)$"
    if source then reached[source] = reached[source] or {} end
    lines = source and reached[source] or false
    lines_of[running] = lines
  end
  if lines then lines[line] = true end
end

-- A coroutine does not inherit a hook of Lua's.
local create = coroutine.create

function coroutine.create(body) -- luacheck: ignore 122
  local thread = create(body)
  debug.sethook(thread, on_line, "l")
  return thread
end

debug.sethook(on_line, "l")

-- The lines with code: all that the compiler has instructions for, but for the `end` of a function that returns before.
local function lines_with_code(path)
  local text = {}
  for line in io.lines(path) do text[#text + 1] = line end
  local with_code, count = {}, 0
  for line in io.popen("luac5.4 -l -p " .. path):lines() do
    local number = tonumber(line:match "^%s+%d+%s+%[(%d+)%]")
    if number and not with_code[number] and not line:find "VARARGPREP" and not text[number]:find "^%s*end[%s,)}]*$" then
      with_code[number] = true
      count = count + 1
    end
  end
  return with_code, count
end

-- 3, 4, 5, 9 as "3-5 9".
local function ranges(numbers)
  table.sort(numbers)
  local parts, first = {}, nil
  for i, number in ipairs(numbers) do
    first = first or number
    if numbers[i + 1] ~= number + 1 then
      parts[#parts + 1] = first == number and tostring(first) or first .. "-" .. number
      first = nil
    end
  end
  return table.concat(parts, " ")
end

local function report()
  debug.sethook()
  local all, all_reached = 0, 0
  print(("\n%-38s %5s %7s"):format("lua", "lines", "reached"))
  for path in io.popen("find lua -name '*.lua' | sort"):lines() do
    local with_code, count = lines_with_code(path)
    local missed = {}
    for number in pairs(with_code) do
      if not (reached[path] and reached[path][number]) then missed[#missed + 1] = number end
    end
    all, all_reached = all + count, all_reached + count - #missed
    print(("%-38s %5d %6.1f%%  %s"):format(path, count, 100 * (count - #missed) / count, ranges(missed)))
  end
  print(("%-38s %5d %6.1f%%"):format("all", all, 100 * all_reached / all))
end

busted.subscribe({ "suite", "end" }, function()
  report()
  return nil, true
end)
