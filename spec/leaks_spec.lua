-- What is made again and again leaves nothing: no block of memory, no descriptor, whether it is closed or collected, or
-- fails. What a failing allocation leaves is in spec/allocations_spec.lua.
local child = require "spec.support.child"
local emulator = require "spec.support.emulator"
local library = require "spec.support.library"
local scratch = require "spec.support.scratch"

describe("nothing is left of", function()
  local e, directory

  setup(function()
    e = emulator.start()
    directory = scratch.quick()
  end)

  teardown(function()
    e:stop()
    scratch.remove(directory)
  end)

  -- Runs a script that gives a table of functions by name; each is called some times, and then many.
  local function leaves_nothing(script)
    local oom <const> = library.build "oom"
    local said = child.run(([[
      local core = require "thingsboard.core"
      local oom = package.loadlib(os.getenv "OOM", "luaopen_oom")()
      local URL, TOKEN, DIRECTORY = %q, %q, %q
      local ROUNDS <const> = 12

      local function client_of(reactor, url, most)
        return core.client(reactor, { prefix = (url or URL) .. "/api/v1/" .. TOKEN, connect_timeout = 5000, TOKEN },
          most or 100000, "a meter")
      end

      local function finish(exchange, reactor)
        local deadline = core.monotonic() + 20
        while not exchange:done() do
          assert(core.monotonic() < deadline)
          reactor:step(1)
        end
        return exchange:result()
      end

      local function in_use()
        for _ = 1, 3 do collectgarbage() end
        return oom.live(), oom.descriptors()
      end

      for name, act in pairs((function() %s end)()) do
        for _ = 1, 3 do act() end -- what is made once is there
        local blocks, descriptors = in_use()
        for _ = 1, ROUNDS do act() end
        local more_blocks, more_descriptors = in_use()
        local lost = more_blocks - blocks
        if lost >= ROUNDS / 2 then print(("%%s: %%d blocks in %%d rounds"):format(name, lost, ROUNDS)) end
        if more_descriptors > descriptors then
          print(("%%s: %%d descriptors"):format(name, more_descriptors - descriptors))
        end
      end
      print "well"
    ]]):format(e.url, e.token, directory, script), { LD_PRELOAD = oom, OOM = oom })
    assert.equal("well\n", said)
  end

  it("calls", function()
    leaves_nothing [[
      local function call(client, reactor, ...)
        local exchange <close> = client:start(...)
        return finish(exchange, reactor)
      end
      local kept = core.reactor() -- whose clients and exchanges go one by one
      local busy = client_of(kept)
      return {
        ["a reactor"] = function()
          local reactor <close> = core.reactor()
          reactor:pollfd()
          local client <close> = client_of(reactor)
          assert(call(client, reactor, "GET", "/attributes", nil, 10000) == 200)
        end,
        ["a reactor that is collected"] = function()
          local reactor = core.reactor()
          reactor:pollfd()
          assert(finish(client_of(reactor):start("GET", "/attributes", nil, 10000), reactor) == 200)
        end,
        ["a reactor that is closed before its clients"] = function()
          local reactor = core.reactor()
          local client = client_of(reactor)
          local exchange = client:start("GET", "/rpc?timeout=10000", nil, 10000)
          reactor:step(0.001)
          reactor:close()
          client:close()
          exchange:close()
        end,
        ["a client"] = function()
          local client <close> = client_of(kept)
          assert(call(client, kept, "POST", "/telemetry", '{"a":1}', 10000) == 200)
        end,
        ["more clients than one pool takes"] = function()
          local reactor <close> = core.reactor()
          for _ = 1, 257 do client_of(reactor) end
        end,
        ["a client that is collected"] = function()
          client_of(kept)
        end,
        ["clients that are refused"] = function()
          assert(not pcall(core.client, kept, { prefix = "http://h", verify = 1 }, 1000))
          assert(not pcall(core.client, kept, { prefix = "http://h", ca_file = ("x"):rep(8000001) }, 1000))
        end,
        ["bodies that are sent"] = function()
          local body <close> = core.body()
          body:value { text = ("x"):rep(2000) }
          assert(call(busy, kept, "POST", "/telemetry", body, 10000) == 200)
        end,
        ["an exchange that is collected"] = function()
          local body = core.body()
          body:value { a = 1 }
          assert(finish(busy:start("POST", "/telemetry", body, 10000), kept) == 200)
          assert(finish(busy:start("GET", "/attributes", nil, 10000), kept) == 200)
        end,
        ["an exchange that is closed in flight"] = function()
          local exchange = busy:start("GET", "/rpc?timeout=10000", nil, 10000)
          kept:step(0.001)
          exchange:close()
        end,
        ["paths that are used again, and others"] = function()
          for _, path in ipairs { "/attributes", "/attributes", "/attributes?clientKeys=a", "/attributes" } do
            assert(call(busy, kept, "GET", path, nil, 10000) == 200)
          end
        end,
        ["failures"] = function()
          local nobody <close> = client_of(kept, "http://127.0.0.1:1")
          assert(not call(nobody, kept, "GET", "/attributes", nil, 10000))
          finish(nobody:start("GET", "/attributes", nil, 10000), kept)
          local small <close> = client_of(kept, URL, 1)
          assert(not call(small, kept, "GET", "/attributes", nil, 10000))
        end,
        ["calls that raise"] = function()
          assert(not pcall(busy.start, busy, "GET", "/", nil, 0))
          assert(not pcall(busy.start, busy, "GET", "/", nil, 1000, { limit = "much" }))
        end,
        ["what a body goes to"] = function()
          local file = core.file(DIRECTORY .. "/body")
          local checksum <close> = core.checksum "SHA256"
          assert(call(busy, kept, "GET", "/attributes", nil, 10000, { file = file, checksum = checksum }) == 200)
          file:commit()
        end,
        ["redacted texts"] = function() busy:redact(("x"):rep(100) .. TOKEN) end,
      }
    ]]
  end)

  it("bodies, checksums and files", function()
    leaves_nothing [[
      return {
        ["a body"] = function()
          local body <close> = core.body()
          assert(body:value(("x"):rep(20000)):take())
          assert(body:telemetry { a = 1 })
          assert(not body:telemetry { a = 0 / 0 })
          assert(not pcall(body.value, body, print))
          core.body(100):value(("x"):rep(50))
        end,
        ["a checksum"] = function()
          for _, algorithm in ipairs { "MD5", "SHA256", "SHA384", "SHA512", "CRC32", "MURMUR3_32", "MURMUR3_128" } do
            local checksum <close> = core.checksum(algorithm)
            checksum:update("abc"):hex()
            core.checksum(algorithm):update("abc"):hex()
          end
          assert(not pcall(core.checksum, "SHA3"))
        end,
        ["a file"] = function()
          for _, name in ipairs { "/file", "/none/file" } do
            for _, temporary in ipairs { false, DIRECTORY .. name .. ".new" } do
              local file <close> = core.file(DIRECTORY .. name, temporary or nil)
              if file then assert(file:write "abc" and file:commit()) end
              core.file(DIRECTORY .. name, temporary or nil)
            end
          end
          assert(not core.file(DIRECTORY):commit()) -- which is a directory
          assert(core.sync(DIRECTORY .. "/file") and not core.sync(DIRECTORY .. "/none"))
        end,
      }
    ]]
  end)

  it("child processes, signals and folders", function()
    leaves_nothing [[
      local process = require "thingsboard.process"
      local function wait(spawned)
        local how
        repeat
          os.execute "true"
          how = spawned:wait()
        until how
      end
      return {
        ["a child process"] = function()
          local spawned <close> = assert(process.spawn { "true" })
          spawned:close_input()
          wait(spawned)
        end,
        ["a child process that is collected"] = function() assert(process.spawn { "sleep", "60" }) end,
        ["a program that cannot run"] = function()
          assert(not process.spawn { DIRECTORY .. "/none" })
          assert(not process.spawn({ "true" }, DIRECTORY .. "/none"))
          assert(not pcall(process.spawn, { "true", "\0" }))
        end,
        ["a poller"] = function()
          local poller <close> = process.poller()
          poller:catch("USR1", true)
          process.poller():catch("USR2", true)
        end,
        ["a folder"] = function()
          assert(process.list "/" and not process.list "/none" and not process.list "/etc/passwd")
        end,
      }
    ]]
  end)

  it("stores", function()
    leaves_nothing [[
      local spool = require "thingsboard.spool"
      local PATH <const> = DIRECTORY .. "/outbox"
      local function new_store(path)
        local store = spool.spool(path or PATH)
        store:set_clock_policy "wall"
        return store
      end
      local function put(store, device, from, to)
        for n = from, to do assert(store:put(device, { n = n })) end
      end
      local function fill(store)
        local x, y = store:device "x", store:device "y"
        assert(store:device "x" == x)
        put(store, x, 0, 9)
        put(store, y, 0, 3)
        assert(store:put(x, { text = ("x"):rep(1000), other = 1 }))
        assert(not store:put(x, { n = 0 / 0 }))
        return x, y
      end
      local function batch(store, device)
        local body <close> = core.body()
        assert(body:value(1))
        assert(store:batch(device, 0, 1 << 40, 1 << 40, 1 << 40, 1 << 40, body))
      end
      return {
        ["a store in memory"] = function()
          local store <close> = new_store()
          local x = fill(store)
          batch(store, x)
          assert(store:discard_pending(x, 3, 5) == 3)
          assert(store:discard_pending(x, 0, 1) == 2)
          assert(store:remove(x, 0, 100) == 6)
        end,
        ["a store that is collected"] = function()
          os.remove(PATH) -- the last one may still have it open
          fill(new_store())
          local store = new_store()
          assert(store:open())
          fill(store)
        end,
        ["a store on disk"] = function()
          os.remove(PATH)
          local store <close> = new_store()
          local x, y = fill(store)
          assert(store:open() and store:sync())
          store:device "z"
          put(store, x, 10, 20)
          put(store, y, 4, 5)
          assert(store:sync())
          batch(store, x)
          assert(store:remove(x, 3, 5) == 3)
          assert(store:remove(y, 0, 1) == 2)
          assert(store:remove(y, 5, 5) == 1)
          assert(store:oldest(x, false) and store:newest(x) and store:span(0))
          assert(#store:query("SELECT name FROM devices WHERE name <> ?", "x") == 3) -- a blob is no text
          assert(not store:query "NONE")
          assert(not pcall(store.query, store, "SELECT ?", print))
          assert(store:date(0) and store:remove_oldest(x) > 0)
          store:shut()
          assert(store:open())
          assert(store:remove_leftovers())
        end,
        ["a store without room"] = function()
          os.remove(PATH)
          local store <close> = new_store()
          store:set_limit(0)
          assert(store:open())
          assert(not store:query("INSERT INTO counters VALUES (1, ?, 1)", ("x"):rep(100000)))
          assert(store:put(store:device "x", { text = ("x"):rep(100000) }))
          assert(not store:sync())
        end,
        ["a store that cannot be opened"] = function()
          local store <close> = new_store(DIRECTORY .. "/none/outbox")
          assert(not store:open())
          local other <close> = new_store "/etc/passwd"
          assert(not other:open())
        end,
        ["names"] = function()
          assert(spool.real_path "/etc/passwd" == "/etc/passwd" and spool.real_path "/etc/none" == "/etc/none")
          assert(not spool.real_path "/none/none")
          os.execute(("ln -sf made %s/link && rm -f %s/made"):format(DIRECTORY, DIRECTORY))
          assert(spool.real_path(DIRECTORY .. "/link") == DIRECTORY .. "/made")
        end,
      }
    ]]
  end)
end)
