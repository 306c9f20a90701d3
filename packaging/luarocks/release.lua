-- Prints the rockspec of a release, made from that of the development tree: only version and source differ.
-- Usage: lua5.4 packaging/luarocks/release.lua thingsboard-scm-1.rockspec VERSION URL
local path, version, url = table.unpack(arg)
assert(url, "usage: release.lua ROCKSPEC VERSION URL")

local file = assert(io.open(path))
local text = file:read "a"
file:close()

local source = ('source = { url = %q, tag = "v%s" }'):format(url, version)

local function replace(pattern, replacement)
  local count
  text, count = text:gsub(pattern, (replacement:gsub("%%", "%%%%")))
  assert(count == 1, path .. " has no line, or several, like " .. pattern)
end

replace('\nversion = "scm%-1"\n', ('\nversion = "%s-1"\n'):format(version))
replace("\nsource = {[^\n]*}\n", "\n" .. source .. "\n")
io.write(text)
