--- Makes what LDoc has written searchable without a network: lua5.4 packaging/manual/index.lua FOLDER
local folder = arg[1]

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

local function write(path, text)
  local file <close> = assert(io.open(path, "w"))
  assert(file:write(text))
end

local entities = { lt = "<", gt = ">", amp = "&", quot = '"', ["#39"] = "'", nbsp = " " }

local function plain(html)
  return (html:gsub("<[^>]*>", " "):gsub("&([%w#]+);", entities):gsub("%s+", " "))
end

local function quoted(text)
  return '"' .. text:gsub('[%c"\\<]', function(char) return ("\\u%04x"):format(char:byte()) end) .. '"'
end

-- The guide's titles, by the names of its files, which LDoc shows in their place.
local titles = {}
for path in io.popen "ls packaging/manual/guide/*.md":lines() do
  titles[path:match "([^/]+)%.md$"] = read(path):match "^# ([^\n]+)"
end

-- What is on each page, as README's list says it.
local contents = {}
for name, text in read("README.md"):gmatch "%(packaging/manual/guide/([^)]+)%.md%) | ([^\n]+) |\n" do
  contents[name] = text:gsub("%[([^]]+)%]%b()", "%1")
end

local entries = {}

local function add(title, url, text)
  entries[#entries + 1] = ("{title:%s,url:%s,text:%s}"):format(quoted(plain(title)), quoted(url), quoted(plain(text)))
end

-- Functions of the reference have anchors of their own, and so have sections of the guide.
local function index(url, html)
  local body = html:match '<div id="content">(.-)<div id="about">' or html
  local title = body:match "<h1>(.-)</h1>" or "The manual"
  local name = plain(title):match "^%s*Module%s+(%S+)"
  if name then
    for anchor, text in body:gmatch '<a name = "([^"]+)"></a>(.-)</dd>' do
      if not anchor:find "^Functions" then add(name .. ": " .. anchor, url .. "#" .. anchor, text) end
    end
    add("Reference: " .. name, url, body:match "^(.-)<h2" or "")
  else
    add(title, url, body)
  end
end

for path in io.popen(("find '%s' -name '*.html' | sort"):format(folder)):lines() do
  local url = path:sub(#folder + 2)
  local html = read(path)
  index(url, html)
  local root = url:find "/" and "../" or ""
  local scripts = ('<script src="%sindex.js"></script><script src="%ssearch.js"></script></body>'):format(root, root)
  html = html:gsub("</body>", scripts, 1):gsub('<div id="about">.-</div>', "", 1)
    :gsub("</head>", ('<meta name="viewport" content="width=device-width, initial-scale=1">'
      .. '<link rel="stylesheet" href="%smanual.css"></head>'):format(root), 1)
  for _, list in ipairs { "<ul", "<table" } do -- the guide before the reference
    local part = "<h2>%s</h2>%%s*" .. list .. ".-" .. list:gsub("<", "</") .. ">%%s*"
    html = html:gsub("(" .. part:format "Reference" .. ")(" .. part:format "Guide" .. ")", "%2%1", 1)
  end
  for name, title in pairs(titles) do -- in LDoc's lists of pages, and in links from page to page
    local escaped = name:gsub("%p", "%%%0")
    html = html:gsub('(%.html">)' .. escaped .. "%.?m?d?<", "%1" .. title .. "<")
      :gsub("<li><strong>" .. escaped .. "</strong>", "<li><strong>" .. title .. "</strong>")
      :gsub('href="' .. escaped .. '%.md"', 'href="' .. name .. '.md.html"')
      :gsub("(" .. escaped .. '%.md%.html">[^<]*</a></td>%s*<td class="summary">)', "%1" .. contents[name])
  end
  write(path, html)
end
write(folder .. "/index.js", "const searchIndex = [" .. table.concat(entries, ",\n") .. "];\n")
for _, name in ipairs { "search.js", "manual.css" } do
  write(folder .. "/" .. name, read("packaging/manual/" .. name))
end
