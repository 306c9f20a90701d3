--- Reads a secret from a file of its own: a token, or the secret of a device profile.
-- @module thingsboard.secret_file
local errors = require "thingsboard.error"

-- Permission bits. The group may read a secret: a service's user reads what is root's by its group.
local BY_OTHERS <const>, WRITABLE_BY_GROUP <const> = 7, 16
local LONGEST <const> = 4096 -- bytes

local function refuse(what, path, reason, retryable)
  return nil, errors.new("file", ("%s: %s %s"):format(what, path, reason), { retryable = retryable })
end

local secret_file = {}

--- Why a file of this mode must hold no secret. Its owner may read and write it, its group may read it.
-- @tparam integer mode permission bits
-- @treturn ?string nil when it may
function secret_file.exposed(mode)
  if mode & BY_OTHERS ~= 0 then
    return "holds a secret that every user can read or write: chmod o= it, and use another secret"
  end
  if mode & WRITABLE_BY_GROUP ~= 0 then return "holds a secret that its group can write: chmod g-w it" end
end

--- Reads it; blanks and a line's end around the secret are no part of it.
-- @tparam string what for messages
-- @tparam string path
-- @treturn[1] string the secret
-- @treturn[2] nil
-- @treturn[2] table the error: there is no such file, it is empty, or others may read or write it
function secret_file.read(what, path)
  local process = require "thingsboard.process"
  local about, reason = process.stat(path)
  if not about then return nil, errors.new("file", what .. ": " .. reason, { retryable = true }) end
  if about.type == "directory" then return refuse(what, path, "is a directory") end
  local exposed = secret_file.exposed(about.mode)
  if exposed then return refuse(what, path, exposed) end
  local file
  file, reason = io.open(path, "rb")
  if not file then return nil, errors.new("file", what .. ": " .. reason, { retryable = true }) end
  local text = (file:read(LONGEST) or ""):match "^%s*(.-)%s*$"
  file:close()
  if text == "" then return refuse(what, path, "is empty", true) end
  return text
end

return secret_file
