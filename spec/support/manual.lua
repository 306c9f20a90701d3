--- What README and the guide say, for specs that hold them to the code.
local manual = {}

local GUIDE = "packaging/manual/guide/"

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

--- The text of a page of the guide.
-- @tparam string page "calls", for calls.md
function manual.page(page) return read(GUIDE .. page .. ".md") end

--- Each piece of Lua of README and the guide, in their order.
-- @treturn table a list of `file`, `number` and `code`
function manual.pieces()
  local files, pieces = { "README.md" }, {}
  for path in io.popen("ls " .. GUIDE .. "*.md"):lines() do files[#files + 1] = path end
  for _, path in ipairs(files) do
    local number = 0
    for code in read(path):gmatch "```lua\n(.-)```" do
      number = number + 1
      pieces[#pieces + 1] = { file = path:match "([^/]+)%.md$", number = number, code = code }
    end
  end
  return pieces
end

--- The rows of a table, without its heads.
-- @tparam string page of the guide
-- @tparam string start its first line, or the title of the section that has it
-- @treturn table a list of lines
function manual.rows(page, start)
  local rows, inside = {}, false
  for line in (manual.page(page)):gmatch "([^\n]*)\n" do
    inside = inside or line == start
    if inside and line:sub(1, 1) == "|" then
      rows[#rows + 1] = line
    elseif #rows > 0 then
      break
    end
  end
  assert(#rows > 2, "the guide has no such table: " .. start)
  return table.move(rows, 3, #rows, 1, {})
end

return manual
