-- What the texts for readers point at is there: links to files and sections, targets of make, spec files, and, in the
-- manual's HTML, every page.

local function read(path)
  local file <close> = io.open(path, "rb")
  return file and file:read "a" -- nil for a folder as well
end

local function exists(path) return os.rename(path, path) ~= nil end

local function lines(command)
  local process <close> = io.popen(command)
  local list = {}
  for line in process:lines() do list[#list + 1] = line end
  return list
end

-- Without code, which may look like links.
local function prose(text) return (text:gsub("```.-```", ""):gsub("`[^`\n]*`", "")) end

-- A heading's name in links, as the hosts of repositories make it.
local function anchors(text)
  local found = {}
  for title in ("\n" .. text:gsub("```.-```", "")):gmatch "\n#+ ([^\n]+)" do
    found[title:lower():gsub("[^%w%s_-]", ""):gsub("%s", "-")] = true
  end
  return found
end

-- What a text links to and is not there.
local function broken(path)
  local text, folder = read(path), path:match "^(.*/)" or ""
  local list = {}
  for link in prose(text):gmatch "%]%(([^)%s]+)%)" do
    local file, section = link:match "^([^#]*)#?(.*)$"
    local target = file == "" and path or folder .. file
    if not link:find "^https?://"
      and not (exists(target) and (section == "" or anchors(read(target))[section])) then
      list[#list + 1] = path .. ": " .. link
    end
  end
  return list
end

describe("texts for readers", function()
  local texts = lines "ls *.md bench/*.md packaging/manual/guide/*.md packaging/openwrt/*.md examples/*/*.md"

  it("link to what is there", function()
    assert.is_true(#texts > 15)
    for _, path in ipairs(texts) do assert.same({}, broken(path)) end
  end)

  it("that link to nothing would be found", function()
    local path = os.tmpname()
    finally(function() os.remove(path) end)
    local file <close> = io.open(path, "w")
    file:write "# One\n[a](nothing.md) [b](#one) [c](#two) `[d](nothing)` [e](https://thingsboard.example/nothing)\n"
    file:flush()
    assert.same({ path .. ": nothing.md", path .. ": #two" }, broken(path))
  end)

  it("name targets of make and files that are there", function()
    local rules = read "Makefile" .. read "packaging/packages.mk" .. read "spec/stacks/stacks.mk"
    local function is_target(name)
      return ("\n" .. rules):find("\n" .. name:gsub("%p", "%%%0") .. "[^\n=]*:[^=]") ~= nil
    end
    for _, path in ipairs(texts) do
      local text = read(path)
      for words in text:gmatch "[`\n] *make ([%w=_/ -]+)" do
        for word in words:gmatch "[^ ]+" do
          if not word:find "^[a-z][a-z-]*$" then break end
          assert.is_true(is_target(word), path .. ": make " .. word)
        end
      end
      for file in text:gmatch "spec/[%w_/]+_spec%.lua" do assert.is_true(exists(file), path .. ": " .. file) end
    end
  end)

  it("have what a script of the service may call, and the collectors, in the guide", function()
    local guide = read "packaging/manual/guide/service.md"
    local count = 0
    for name in read "lua/thingsboard/service/init.lua":gmatch "function facade%.([%w_]+)" do
      assert.truthy(guide:find("`device:" .. name .. "(", 1, true), name)
      count = count + 1
    end
    for _, path in ipairs(lines "ls lua/thingsboard/collector") do
      assert.truthy(guide:find("\n| `" .. path:match "%w+" .. "` |", 1, true), path)
      count = count + 1
    end
    assert.is_true(count > 10)
  end)

  it("link all pages of the guide in README, and the manual has them in its list", function()
    local readme, list = read "README.md", read "packaging/manual/config.ld"
    for _, path in ipairs(lines "ls packaging/manual/guide/*.md") do
      assert.truthy(readme:find("(" .. path .. ")", 1, true), path)
      assert.truthy(list:find('"' .. path:match "guide/.*" .. '"', 1, true), path)
    end
  end)
end)
