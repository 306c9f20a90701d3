--- How a server can lie, and what comes of it.
local TOKEN <const> = "S3CR3T-T0K3N"
-- As ThingsBoard marks its packages; elsewhere the second header means nothing.
local HEAD <const> = "HTTP/1.1 200 " .. TOKEN .. "\r\nContent-Type: application/json\r\n"
  .. "Content-Disposition: attachment;filename=package.bin\r\n"
local BODY <const> = '{"shared":{}}'

local function raw(...)
  return { how = "raw", raw = table.concat { ... } }
end

local function says(body, status)
  return { how = "status", status = status or 200, body = body }
end

local function and_stays(fault)
  fault.stay = true
  return fault
end

local function and_resets(fault)
  fault.reset = true
  return fault
end

-- In place of a code: libcurl's own, which is not the same in each of its releases, nor are its words.
local ANY_CODE <const> = {}

-- What comes of a lie: kind, code or status, whether it may pass, and words. A post does not believe a 200 that has a
-- body; a file is held to its mark and its size.
local GONE <const> = { "network", ANY_CODE, true, "" }
local CUT <const> = { "network", "PARTIAL_FILE", true, "ended within the answer's headers" }
local LATE <const> = { "timeout", "OPERATION_TIMEDOUT", true, "" }
local SENSELESS <const> = { "answer", ANY_CODE, true, "" }
local HEADERS <const> = { "answer", "HEADERS_TOO_LARGE", false, "more than 32768 bytes" }
local LARGE <const> = { "answer", "BODY_TOO_LARGE", false, "more than 1048576 bytes" }
local NO_JSON <const> = { "answer", 200, true, "no JSON" }
local NO_VALUES <const> = { "answer", 200, true, "no attributes" }
local BODY_OF_POST <const> = { "answer", 200, true, "check the url, and any proxy, firewall or portal on the way" }
local PAGE <const> = { "answer", 200, true, "a page of HTML" }
local PACKAGE <const> = { "package", nil, false, "where 50 were expected" }
local NO_PACKAGE <const> = { "answer", 200, true, "not marked as a package" }
local NO_PACKAGE_LARGE <const> = { "answer", nil, true, "more than 50 bytes; check the url" }
local PACKAGE_LARGE <const> = { "package", nil, false, "more bytes than the 50 expected" }

local function status(code, words)
  return { "answer", code, true, words or "no answer of ThingsBoard's" }
end

-- Where one release of libcurl takes what another does not.
local function either(one, other)
  return { either = { one, other } }
end

-- `all` of post, get and file, or each; `http`: all of them over plain HTTP, where TLS notices the lie by itself.
-- `late`: it ends at the time-out.
local lies = {
  ANY_CODE = ANY_CODE,
  TOKEN = TOKEN,
  MOST_RESPONSE = 1 << 20, -- bytes, of a device
  PACKAGE = { title = "t", version = "1", size = 50 },
  { "closes before the answer", { how = "close" }, all = GONE },
  { "closes in the status line", { how = "close_after", bytes = 7 }, all = GONE },
  { "closes in the headers", { how = "close_after", bytes = 60 },
    all = GONE, http = CUT },
  { "closes before the headers' end", raw(HEAD, "Content-Length: 0\r\n"),
    all = GONE, http = CUT },
  { "closes in the body", raw(HEAD, "Content-Length: 20\r\n\r\n", BODY), all = GONE },
  { "closes in a chunk", raw(HEAD, "Transfer-Encoding: chunked\r\n\r\nff\r\n", BODY),
    all = GONE },
  { "resets before the answer", { how = "reset" }, all = GONE },
  { "resets in the status line", { how = "reset_after", bytes = 7 }, all = GONE },
  { "resets in the headers", { how = "reset_after", bytes = 60 }, all = GONE },
  { "resets in the body", and_resets(raw(HEAD, "Content-Length: 20\r\n\r\n", BODY)), all = GONE },
  { "sends nothing", { how = "stall" }, all = LATE, late = true },
  { "sends a byte a second", { how = "slow", bytes = 1, seconds = 1 }, all = LATE, late = true },
  { "sends headers only", and_stays(raw(HEAD, "Content-Length: 20\r\n\r\n")), all = LATE, late = true },
  { "sends no length and no end", and_stays(raw(HEAD, "\r\n", BODY)), all = LATE, late = true },
  { "sends an interim answer only", and_stays(raw "HTTP/1.1 100 \r\n\r\n"), all = LATE, late = true },
  { "closes after an interim answer", raw "HTTP/1.1 100 \r\n\r\n", all = GONE },
  { "tells a length that is too large", { how = "wrong_length", bytes = 10 }, all = GONE },
  { "tells a length that is too large, and waits", { how = "wrong_length", bytes = 10, stay = true }, all = LATE,
    late = true },
  { "tells a length that is too small", and_stays(raw(HEAD, "Content-Length: 5\r\n\r\n", BODY)),
    post = BODY_OF_POST, get = NO_JSON, file = PACKAGE },
  { "tells two lengths", { how = "two_lengths" }, all = either(GONE, SENSELESS) },
  { "tells a negative length", raw(HEAD, "Content-Length: -5\r\n\r\n", BODY), all = SENSELESS },
  { "tells a length of words", raw(HEAD, "Content-Length: many\r\n\r\n", BODY), all = SENSELESS },
  { "tells a length of 2^63", raw(HEAD, "Content-Length: 9223372036854775808\r\n\r\n", BODY),
    post = either(BODY_OF_POST, GONE), get = either(true, GONE), file = either(PACKAGE, GONE) },
  { "tells a chunk of 2^64 - 1", raw(HEAD, "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", BODY),
    all = GONE },
  { "sends chunks without end", { how = "endless_chunked" }, post = LARGE, get = LARGE, file = PACKAGE_LARGE },
  { "sends a body without end", { how = "endless_body" }, post = LARGE, get = LARGE, file = PACKAGE_LARGE },
  { "sends a gzip bomb", { how = "gzip_bomb" }, post = LARGE, get = LARGE, file = PACKAGE_LARGE },
  { "sends a gzip bomb below the cap", { how = "gzip_bomb", bytes = 1 << 26 },
    post = BODY_OF_POST, get = NO_JSON, file = PACKAGE_LARGE },
  { "sends 100 MB of headers", { how = "endless_headers", bytes = 100e6 }, all = HEADERS },
  { "sends a header of 1 MB", { how = "huge_headers" }, all = HEADERS },
  { "sends interim answers without end", raw(("HTTP/1.1 102 \r\nX: y\r\n\r\n"):rep(50000)), all = HEADERS },
  { "sends 1 MB of trailers", raw(HEAD, "Transfer-Encoding: chunked\r\n\r\n0\r\n", ("X: y\r\n"):rep(170000), "\r\n"),
    all = HEADERS },
  { "sends interim answers, then the answer",
    raw("HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 \r\nLink: x\r\n\r\n", HEAD, "Content-Length: 13\r\n\r\n", BODY),
    post = BODY_OF_POST, get = true, file = PACKAGE },
  { "sends what is no HTTP", { how = "garbage" }, all = SENSELESS },
  { "sends HTTP/3.0", raw "HTTP/3.0 200 \r\nContent-Length: 0\r\n\r\n",
    post = either(SENSELESS, true), get = either(SENSELESS, NO_JSON), file = either(SENSELESS, NO_PACKAGE) },
  { "sends a header without a colon", raw(HEAD, TOKEN, "\r\n\r\n"),
    post = either(SENSELESS, either(true, GONE)), get = either(SENSELESS, either(NO_JSON, GONE)),
    file = either(SENSELESS, either(PACKAGE, GONE)) },
  { "says 204", says("", 204), all = status(204) },
  { "says 304", says("", 304), all = status(304) },
  { "redirects to itself", { how = "redirect", status = 301 }, all = status(301, "the server redirects") },
  { "redirects to a file", { how = "redirect", status = 301, headers = { Location = "file:///etc/passwd" } },
    all = status(301, "the server redirects") },
  { "says 200 with a page of HTML", says("\r\n<!doctype html><html>" .. TOKEN), post = PAGE, get = NO_JSON,
    file = NO_PACKAGE },
  { "says nothing", says "", post = true, get = NO_JSON, file = NO_PACKAGE },
  { "says null", says "null", post = BODY_OF_POST, get = NO_VALUES, file = NO_PACKAGE },
  { "says half of it", says '{"shared":{"a":1}', post = BODY_OF_POST, get = NO_JSON, file = NO_PACKAGE },
  { "says an array", says "[]", post = BODY_OF_POST, get = NO_VALUES, file = NO_PACKAGE },
  { "says a list", says '[{"a":1}]', post = BODY_OF_POST, get = NO_VALUES, file = NO_PACKAGE },
  { "says lists for objects", says '{"shared":[1,2]}', post = BODY_OF_POST, get = NO_VALUES, file = NO_PACKAGE },
  { "says a value for objects", says '{"client":5}', post = BODY_OF_POST, get = NO_VALUES, file = NO_PACKAGE },
  { "says arrays in arrays, 10,000 of them", says(("["):rep(10000) .. ("]"):rep(10000)),
    post = BODY_OF_POST, get = NO_JSON, file = NO_PACKAGE_LARGE },
  { "says objects in objects, 10,000 of them", says(('{"a":'):rep(10000) .. "1" .. ("}"):rep(10000)),
    post = BODY_OF_POST, get = NO_JSON, file = NO_PACKAGE_LARGE },
  { "says NaN", says '{"shared":{"a":NaN}}', post = BODY_OF_POST, get = NO_JSON, file = NO_PACKAGE },
  { "says a NUL", says '{"shared":{"a\0b":1}}', post = BODY_OF_POST, get = NO_JSON, file = NO_PACKAGE },
}

return lies
