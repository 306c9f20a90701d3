--- Request targets: what Tomcat and the application's firewall let pass.
local text = require "spec.emulator.text"

local target = {}

-- Characters that must not stand unencoded.
local UNSAFE = '[%c \x80-\xFF"#<>\\^`{|}]'

-- Whether the path climbs above its root.
local function climbs_out(path)
  local depth = 0
  for segment in path:gmatch("[^/]+") do
    if segment == ".." then depth = depth - 1 elseif segment ~= "." then depth = depth + 1 end
    if depth < 0 then return true end
  end
  return false
end

local function tomcat_refuses(path, query)
  if path:sub(1, 1) ~= "/" or path:find(UNSAFE) or (query and query:find(UNSAFE)) then return true end
  local lower = path:lower()
  if lower:find("%2f", 1, true) or lower:find("%5c", 1, true) or lower:find("%00", 1, true) then return true end
  local decoded = text.percent_decode(path)
  return not decoded or climbs_out(decoded)
end

local encoded_traps = { "//", ";", "%3b", "%25", "%2e", "%0a", "%0d" }

local function firewall_refuses(path, decoded)
  local lower = path:lower()
  for _, trap in ipairs(encoded_traps) do
    if lower:find(trap, 1, true) then return true end
  end
  if decoded:find("\u{2028}", 1, true) or decoded:find("\u{2029}", 1, true) then return true end
  for segment in path:gmatch("[^/]+") do
    if segment == "." or segment == ".." then return true end
  end
  return false
end

--- Takes a request target apart.
-- @return `{ path=, query=, segments= }`, the segments decoded; or nil and who refuses it, "tomcat" or "firewall"
function target.parse(string)
  string = string:match("^%a[%w+.-]*://[^/?]*(.*)$") or string
  local path, query = string:match("^([^?]*)%??(.*)$")
  query = string:find("?", 1, true) and query or nil
  if path == "" then path = "/" end
  if tomcat_refuses(path, query) then return nil, "tomcat", path end
  local decoded = text.decode(text.percent_decode(path))
  if firewall_refuses(path, decoded) then return nil, "firewall", path end
  local segments = {}
  for segment in (path:sub(2) .. "/"):gmatch("([^/]*)/") do
    segments[#segments + 1] = text.decode(text.percent_decode(segment))
  end
  return { path = path, query = query, segments = segments }
end

return target
