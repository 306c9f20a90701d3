--- Answers the server's RPC requests, and tries until the answer has arrived, whatever the handler does.
-- @module thingsboard.api.rpc_answer
local backoff = require "thingsboard.http.backoff"
local errors = require "thingsboard.error"

local TRIES <const> = 4 -- the caller waits for 10 s: more tries come too late

local answer = {}

--- Sends an answer. It must reach the server, or else the request blocks those behind it.
-- @tparam table loop
-- @tparam table asked the request
-- @param value any value; one that cannot be sent is answered `{error = ...}`
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] table the error
function answer.send(loop, asked, value)
  local pause = backoff.new(0.5, 4)
  local sendable, ok, err
  for try = 1, TRIES do
    sendable, ok, err = pcall(asked.reply, asked, value)
    if not sendable then return asked:reply { error = tostring(ok) } end -- a function, a cycle
    if ok or not err.retryable then break end
    if try < TRIES then loop:sleep(pause:next()) end
  end
  -- It cannot be sent, or is too large for the server: tell the caller.
  if err and (err.kind == "value" or err.kind == "http" and err.status == 413) then
    return asked:reply { error = err.message }
  end
  return ok, err
end

--- Calls a handler, and sends what it returns, or what it raises as `{error = ...}`.
-- @tparam table loop
-- @tparam table asked the request
-- @tparam ?function handler called with the request's `params` and the request; nil when there is none
-- @treturn ?string what the handler raised
function answer.by(loop, asked, handler)
  local ok, result = false, "no such method: " .. asked.method
  if handler then ok, result = pcall(handler, asked.params, asked) end
  if ok then
    answer.send(loop, asked, result)
  else
    result = errors.text_of(result)
    answer.send(loop, asked, { error = result })
    return handler and result or nil
  end
end

return answer
