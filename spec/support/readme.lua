--- What the README says, for specs that hold it to the code.
local readme = {}

local function read()
  local file <close> = assert(io.open "README.md")
  return file:read "a"
end

--- The rows of a table, without its heads.
-- @tparam string heads its first line, as it stands
-- @treturn table a list of lines
function readme.rows(heads)
  local text = read()
  local from = select(2, text:find("\n" .. heads .. "\n", 1, true))
  assert(from, "the README has no such table: " .. heads)
  local rows = {}
  for line in text:sub(from + 1):gmatch "([^\n]*)\n" do
    if line:sub(1, 1) ~= "|" then break end
    rows[#rows + 1] = line
  end
  table.remove(rows, 1) -- the line below the heads
  return rows
end

local function shown(value)
  if value == nil then return "none" end
  if type(value) == "string" then return ('`"%s"`'):format(value) end
  if math.type(value) ~= "integer" then return ("`%s`"):format(value) end
  if value > 0 and value % (1 << 20) == 0 then return ("%d MiB"):format(value >> 20) end
  if value > 0 and value % (1 << 10) == 0 then return ("%d KiB"):format(value >> 10) end
  return (tostring(value):reverse():gsub("%d%d%d", "%0,"):reverse():gsub("^,", ""))
end

--- The rows that the README has to show for a list of options.
-- @tparam table options of `name`, `type`, `default` and `doc`
-- @treturn table a list of lines
function readme.options(options)
  local rows = {}
  for _, option in ipairs(options) do
    local default = option.type:find "!$" and "required" or shown(option.default)
    rows[#rows + 1] = ("| `%s` | %s | %s |"):format(option.name, default, option.doc)
  end
  return rows
end

--- The rows that the README has to show for what becomes of a record.
-- @tparam table answers of `said`, `becomes` and `counter`
-- @treturn table a list of lines
function readme.answers(answers)
  local rows = {}
  for _, row in ipairs(answers) do rows[#rows + 1] = ("| %s | %s | %s |"):format(row.said, row.becomes, row.counter) end
  return rows
end

return readme
