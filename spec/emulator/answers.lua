--- Answers before they become bytes: a status, headers and a body.
-- Fields: `status`; `headers`, a list of name and value pairs; `body`; `chunked` for a body without a length; `plain`
-- for one without the security headers; `close` to end the connection; `never` for none at all, `cut` to end the
-- connection without one; `why`, the reason that the server does not give, for people to read.
local media = require "spec.emulator.media"

local answers = {}

--- An answer with nothing in it.
function answers.empty(status, why)
  return { status = status, headers = {}, body = "", why = why }
end

--- JSON with status 200.
function answers.json(body)
  return { status = 200, headers = { { "Content-Type", "application/json" } }, body = body }
end

--- A bare text: which type it is called depends on what the client accepts.
function answers.text(exchange, status, body)
  local kind = media.text_type(exchange.headers.accept)
  -- Where Accept cannot be read an error loses its text, and anything else becomes an error.
  if not kind then return answers.empty(status >= 400 and status or 406) end
  return { status = status, headers = { { "Content-Type", kind } }, body = body }
end

--- What a device hears that is deleted while it waits.
function answers.deleted(exchange)
  local answer = answers.text(exchange, 403, "Device was deleted!")
  if exchange.method ~= "POST" then answer.headers = { { "Content-Type", "application/json" } } end
  return answer
end

return answers
