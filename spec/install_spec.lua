-- What is installed works from where it was put, and by itself.
local child = require "spec.support.child"
local emulator = require "spec.support.emulator"
local scratch = require "spec.support.scratch"

describe("installed", function()
  local e, directory

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)
  before_each(function() directory = scratch.new() end)
  after_each(function() scratch.remove(directory) end)

  local function run(command)
    local process = io.popen("(" .. command .. ") 2>&1")
    local said = process:read "a"
    return process:close(), said
  end

  -- A process that finds the module under this folder and nowhere else.
  local function post(root)
    local script = directory .. "/post.lua"
    local file = io.open(script, "w")
    file:write(([[
      local tb = require "thingsboard"
      assert(package.searchpath("thingsboard", package.path):find(%q, 1, true))
      assert(package.searchpath("thingsboard.core", package.cpath):find(%q, 1, true))
      local dev <close> = tb.device { url = %q, token = %q }
      assert(dev:send_telemetry { installed = true })
      print(assert(require "thingsboard.adapter.cqueues") and "posted")
    ]]):format(root, root, e.url, e.token))
    file:close()
    local ok, said = run(("env LUA_PATH='%s/share/lua/5.4/?.lua;%s/share/lua/5.4/?/init.lua;;' "
      .. "LUA_CPATH='%s/lib/lua/5.4/?.so;;' sh -c 'cd / && lua5.4 %s'"):format(root, root, root, script))
    assert(ok, said)
    assert.equal("posted\n", said)
  end

  -- The command, with the modules of this folder.
  local function command(root)
    local ok, said = run(("env LUA_PATH='%s/share/lua/5.4/?.lua;%s/share/lua/5.4/?/init.lua;;' "
      .. "LUA_CPATH='%s/lib/lua/5.4/?.so;;' THINGSBOARD_TOKEN=%s %s/bin/thingsboard --url %s send installed=true")
      :format(root, root, root, e.token, root, e.url))
    assert(ok, said)
    assert.equal("", said)
  end

  it("by make, and uninstalled without a trace", function()
    local stage = directory .. "/stage"
    assert(run("make install DESTDIR=" .. stage .. " PREFIX=/opt/tb"))
    post(stage .. "/opt/tb")
    command(stage .. "/opt/tb")
    assert(run("make uninstall DESTDIR=" .. stage .. " PREFIX=/opt/tb"))
    assert.equal("", select(2, run("find " .. stage .. " -type f")))
  end)

  it("without SQLite, it says so when an outbox is asked for, and does the rest", function()
    local stage = directory .. "/stage"
    assert(run("make install DESTDIR=" .. stage .. " SQLITE="))
    local said = child.run(([[
      local tb = require "thingsboard"
      local dev = tb.device { url = %q, token = %q }
      print(pcall(function() dev:outbox { path = %q } end))
      print(dev:send_telemetry { a = 1 })
    ]]):format(e.url, e.token, directory .. "/outbox"), { LUA_CPATH = stage .. "/usr/local/lib/lua/5.4/?.so;;" })
    assert.matches("^false\t%(command line%):3: outbox: this build has none, .* install SQLite's [^\n]+\ntrue\n$", said)
  end)

  describe("by LuaRocks", function()
    -- README's line that tells of a lua-cjson which LuaRocks has not installed.
    local tell = io.open("README.md"):read("a"):match "\n    (mkdir [^\n]+ rocks_provided[^\n]+)\n"

    local function told() return "export HOME=" .. directory .. "; " .. tell .. " && " end

    it("into a tree of its own, from which the command runs as it is", function()
      local copy, tree = directory .. "/copy", directory .. "/tree"
      assert(run(("mkdir %s && cp -r bin csrc lua *.rockspec %s"):format(copy, copy)))
      local ok, said = run((told() .. "cd %s && luarocks --lua-version 5.4 --only-server=%s --tree %s make "
        .. "thingsboard-scm-1.rockspec"):format(copy, directory, tree))
      assert(ok, said)
      post(tree)
      ok, said = run(("cd / && env -u LUA_PATH -u LUA_CPATH THINGSBOARD_TOKEN=%s %s/bin/thingsboard --url %s "
        .. "send installed=true"):format(e.token, tree, e.url))
      assert(ok, said)
      assert.equal("", said)
    end)

    it("which fails without lua-cjson", function()
      -- From a server that has nothing.
      local make = ("HOME=%s luarocks --lua-version 5.4 --only-server=%s --tree=%s/tree make --only-deps "
        .. "thingsboard-scm-1.rockspec"):format(directory, directory, directory)
      local ok, said = run(make)
      assert.is_nil(ok)
      assert.matches("lua%-cjson", said)
      assert(run(told() .. make))
    end)
  end)

  it("by LuaRocks: the rockspec names every file", function()
    local text = io.open("thingsboard-scm-1.rockspec"):read "a"
    for path in io.popen("find lua -name '*.lua'; ls csrc/*/*.c"):lines() do
      assert.truthy(text:find('"' .. path .. '"', 1, true), path .. " is missing in the rockspec")
    end
  end)
end)
