--- Reads a secret from a file of its own: a token, or the secret of a device profile.
-- @module thingsboard.secret_file
local errors = require "thingsboard.error"

local OTHERS <const> = 7 -- the permission bits of those who are neither the owner nor in the group
local LONGEST <const> = 4096 -- bytes

local function refuse(what, path, reason, retryable)
  return nil, errors.new("file", ("%s: %s %s"):format(what, path, reason), { retryable = retryable })
end

local secret_file = {}

--- Reads it; blanks and a line's end around the secret are no part of it.
-- @tparam string what for messages
-- @tparam string path
-- @treturn[1] string the secret
-- @treturn[2] nil
-- @treturn[2] table the error: there is no such file, it is empty, or others may read it
function secret_file.read(what, path)
  local process = require "thingsboard.process"
  local about, reason = process.stat(path)
  if not about then return nil, errors.new("file", what .. ": " .. reason, { retryable = true }) end
  if about.mode & OTHERS ~= 0 then
    return refuse(what, path, "holds a secret that every user can read or write: chmod o= it, and use another secret")
  end
  local file
  file, reason = io.open(path, "rb")
  if not file then return nil, errors.new("file", what .. ": " .. reason, { retryable = true }) end
  local text = (file:read(LONGEST) or ""):match "^%s*(.-)%s*$"
  file:close()
  if text == "" then return refuse(what, path, "is empty", true) end
  return text
end

return secret_file
