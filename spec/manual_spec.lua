-- The manual: each example of the reference runs, and the manual can be made and searched. The guide's pieces run in
-- examples_spec.
local emulator = require "spec.support.emulator"
local samples = require "packaging.manual.samples"
local scratch = require "spec.support.scratch"

local lua = arg[-1] or "lua5.4"
while not lua:find "lua[%d.]*$" do lua = "lua5.4" end

describe("the manual #host", function()
  local e, directory

  setup(function() e = emulator.start { ota_delay = 0 } end)
  teardown(function() e:stop() end)

  -- A device for every piece, which has what the manual speaks of.
  before_each(function()
    directory = scratch.new()
    e:clear()
    e:delete_device(e.token)
    e:create_device { name = "Test Device", token = e.token }
    e:provision_profile { key = "profile-key", secret = "profile-secret", strategy = "ALLOW_CREATE" }
    e:on_client_rpc "echo"
    e:set_shared(e.token, '{"interval":5,"target":23}')
    e:assign(e.token, "firmware", { title = "t", version = "1", size = 150000 })
  end)

  after_each(function() scratch.remove(directory) end)

  -- Runs a piece as a process that has `tb` and `dev`; what goes on for ever gets a moment.
  local function start(code)
    code = code:gsub("https://thingsboard%.example", e.url):gsub("A1_TEST_TOKEN", e.token)
      :gsub("/etc/thingsboard/credentials", directory .. "/credentials"):gsub("/tmp/firmware%.bin", directory .. "/fw")
      :gsub("/tmp/firmware", directory):gsub("/tmp/outbox", directory .. "/outbox")
    if code:find "while true" then code = code:gsub("tb%.run%(%)%s*$", "tb.sleep(0.3)") end
    local path = directory .. "/piece.lua"
    local file <close> = io.open(path, "w")
    if not code:find('require "thingsboard"\n', 1, true) then
      file:write(('local tb = require "thingsboard"; local dev = tb.device { url = "%s", token = "%s" }; '):format(
        e.url, e.token))
    end
    file:write(code, "\n")
    if code:find "spawn" then file:write "tb.sleep(0.3)\n" end
    return io.popen(("timeout 30 %s %s 2>&1; echo status $?"):format(lua, path))
  end

  local function run(code)
    if code:find "rpc_requests" or code:find "serve_rpc" then
      e:rpc(e.token, { method = "getState", params = "{}", timeout = 20000 })
      e:rpc(e.token, { method = "stop", params = "{}", timeout = 20000, oneway = true })
    end
    local process <close> = start(code)
    local said = process:read "a"
    assert.truthy(said:find "status 0\n$", said)
    assert.falsy(said:find("a task failed", 1, true), said)
    return said
  end

  local names = {}
  for name in pairs(samples) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    it("has an example that runs: " .. name, function() run(samples[name]) end)
  end

  it("can be made, and searched without a network", function()
    if not os.execute "command -v ldoc >/dev/null" then return pending "ldoc is not installed: lua-ldoc" end
    local said = io.popen("make -s doc 2>&1; echo status $?"):read "a"
    assert.truthy(said:find "status 0\n$", said)
    local doc = "build/doc/"
    local index = assert(io.open(doc .. "index.js")):read "a"
    for _, name in ipairs { "device: send_telemetry", "outbox: put", "tb: provision", "Losing nothing" } do
      assert.truthy(index:find(name, 1, true), name)
    end
    for library, name in pairs { core = "client:start", spool = "put", process = "spawn" } do
      assert.truthy(index:find(("thingsboard.%s: %s"):format(library, name), 1, true), name)
    end
    local page = assert(io.open(doc .. "reference/device.html")):read "a"
    assert.truthy(page:find("search.js", 1, true))
    assert.truthy(page:find("POST /api/v1/TOKEN/telemetry", 1, true))
    assert.falsy(page:find 'src="http')
    assert.truthy(page:find('name="viewport"', 1, true), "a phone would show it in tiny letters, as a desktop's page")
    for path in io.popen("find " .. doc .. " -name '*.html'"):lines() do -- its links lead to its own pages
      local folder = path:match "^(.*/)"
      for link in assert(io.open(path)):read("a"):gmatch 'href="([^"#:]+)[^":]*"' do
        assert.truthy(os.rename(folder .. link, folder .. link), path .. ": " .. link)
      end
    end
  end)
end)
