--- A Lua script in a process of its own, with the modules of this one: for specs of what a whole process is needed for.
local child = {}

local function quoted(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- Starts a script.
-- @tparam string script Lua text
-- @tparam ?table environment variables by name
-- @tparam ?string prelude for the shell, before the script's process takes its place
-- @treturn file what it prints and complains of; `close` waits for its end
function child.start(script, environment, prelude)
  -- Signals as every shell leaves them, though this process ignores these.
  local words = { prelude or "", "exec env --default-signal=PIPE,XFSZ" }
  words[#words + 1] = "LUA_PATH=" .. quoted(package.path)
  words[#words + 1] = "LUA_CPATH=" .. quoted(package.cpath)
  for name, value in pairs(environment or {}) do words[#words + 1] = name .. "=" .. quoted(value) end
  words[#words + 1] = "timeout 60 lua5.4 -e " .. quoted(script) .. " 2>&1"
  return io.popen(table.concat(words, " "))
end

--- Runs a script to its end.
-- @treturn string what it printed
function child.run(...)
  local process <close> = child.start(...)
  return process:read "a"
end

return child
