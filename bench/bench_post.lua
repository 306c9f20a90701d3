--- Cost of a telemetry post on a kept connection.
package.path = "bench/?.lua;" .. package.path
local support = require "support"

local ROUNDS, COUNT = 5, 4000 -- of wall and CPU

local directory <close> = support.directory()
local server <close>, base = support.nginx(directory, "location / { return 200; }")
if not server then return end
local url = base .. "/api/v1/A1_TEST_TOKEN/telemetry"

local function lua(script, address) return ("%s bench/%s.lua %s"):format(support.lua, script, address) end

-- The last column: by how much fewer posts a client is measured that costs much more.
local clients = {
  { "reactor in C (the limit)", support.program "post_reactor" .. " " .. url },
  { "easy handle in C", support.program "post_easy" .. " " .. url },
  { "this module, blocking", lua("post", base) },
  { "this module, in a task", lua("post", base), " 1" },
}
local function peer(name, probe, command, fewer)
  local there = support.line("{ " .. probe .. "; } 2>&1 && echo yes") == "yes"
  if there then clients[#clients + 1] = { name, command, "", fewer = fewer }
  else print("(" .. name .. " is missing: without it)") end
end
peer("Lua-cURL, lua-cjson", support.lua .. " -e 'require [[cURL]] require [[cjson]]'", lua("post_curl", url))
peer("LuaSocket, lua-cjson", support.lua .. " -e 'require [[socket.http]] require [[cjson]]'", lua("post_socket", url))
local python = support.line "python3 -c 'import sys; print(sys.executable)'" or "python3"
peer("Python requests", python .. " -c 'import requests'", python .. " bench/post_requests.py " .. url, 10)

local function command(client, count)
  return ("%s %d%s"):format(client[2], count // (client.fewer or 1), client[3] or "")
end

-- What one post takes, without what the process takes to begin and end.
for _ = 1, ROUNDS do
  for _, client in ipairs(clients) do
    client.walls, client.cpus = client.walls or {}, client.cpus or {}
    local wall_0, cpu_0 = support.measure(command(client, 10))
    local wall, cpu = support.measure(command(client, COUNT + 10))
    local each = 1e6 / (COUNT // (client.fewer or 1))
    table.insert(client.walls, (wall - wall_0) * each)
    table.insert(client.cpus, (cpu - cpu_0) * each)
  end
end

local counted = support.has "valgrind"
if counted then
  for _, client in ipairs(clients) do
    local few = support.instructions(command(client, 100), directory)
    local many = support.instructions(command(client, 500), directory)
    client.instructions = (many - few) / (400 // (client.fewer or 1))
  end
end

local limit = clients[1]
local rows = { { "client", "wall us", "CPU us", "of the limit's", "instructions", "of the limit's" } }
for i, client in ipairs(clients) do
  local ratios = {} -- of CPU, round by round: what disturbs one disturbs its neighbour
  for round, cpu in ipairs(client.cpus) do ratios[round] = cpu / limit.cpus[round] end
  rows[i + 1] = {
    client[1], ("%.0f"):format(support.median(client.walls)), ("%.0f"):format(support.median(client.cpus)),
    ("%.2f"):format(support.median(ratios)), counted and ("%.0f"):format(client.instructions) or "?",
    counted and ("%.2f"):format(client.instructions / limit.instructions) or "?",
  }
  client.cpu = support.median(ratios)
end
for _, what in ipairs { "cpu", "instructions" } do
  for i = 2, #clients do
    local value = what == "cpu" and clients[i].cpu or counted and clients[i].instructions / limit.instructions
    local group = (what == "cpu" and "CPU time" or "Instructions") .. " of a post: a reactor in C"
    if value then support.figure(group, clients[i][1], value, clients[i][1]:find "^this module") end
  end
end
support.print("Cost of one telemetry post of 3 keys, kept connection, nginx answering 200", rows)
