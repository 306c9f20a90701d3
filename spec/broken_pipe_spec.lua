-- SIGPIPE, which ends a process by default: a server that resets a connection must not.
local child = require "spec.support.child"
local emulator = require "spec.support.emulator"

describe("SIGPIPE", function()
  local e

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)

  it("does not end a process whose TLS server answers, and then resets kept connections and open polls", function()
    e:fault { path = "/telemetry", how = "raw", raw = "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", reset = true }
    e:fault { path = "/attributes/updates", how = "reset" }
    local said = child.run(([[
      local tb = require "thingsboard"
      local dev <close> = tb.device { url = %q, ca_file = %q, token = %q }
      for round = 1, 5 do
        dev:send_telemetry { round = round }
        local polls = dev:attribute_updates { "a" }
        tb.spawn(function() for _ in polls do end end)
        tb.spawn(function()
          for n = 1, 3 do
            dev:send_telemetry { n = n }
            tb.sleep(0.05)
          end
          polls:close()
        end)
        tb.run()
      end
      print "still here"
    ]]):format(e.tls_url, e.ca_file, e.token))
    assert.equal("still here\n", said)
  end)

  -- Whether the process is still there once it has written to a pipe that nobody reads.
  local function writes_on(script)
    return child.run(script .. [[
      local pipe = io.popen("exit 0", "w")
      os.execute "sleep 0.3"
      local ok = pipe:write(("x"):rep(1 << 20)) and pipe:flush()
      print(ok and "written" or "refused")
    ]])
  end

  it("and SIGXFSZ are ignored once the module is loaded, where they had the default action", function()
    local ignored = [[
      local status = io.open("/proc/self/status"):read "a"
      io.write(("%x "):format(tonumber(status:match "SigIgn:%s*(%x+)", 16) & (1 << 12 | 1 << 24)))
    ]]
    assert.equal("0 1001000 refused\n", writes_on(ignored .. 'require "thingsboard"' .. ignored))
  end)

  it("and SIGXFSZ are default again for programs that a script starts", function()
    local said = child.run [[
      local run <const>, loop <const> = require "thingsboard.loop.child".run, require "thingsboard.loop"
      local ignored <const> = assert(run(loop.default(), { "sed", "-n", "s/SigIgn:\t//p", "/proc/self/status" })).output
      print(tonumber(ignored, 16) & (1 << 12 | 1 << 24))
    ]]
    assert.equal("0\n", said)
  end)

  it("keeps the handler that the program has installed", function()
    local said = child.run [[
      local luv = require "luv"
      local handler = luv.new_signal()
      handler:start("sigpipe", function() io.write "handled " handler:stop() end)
      require "thingsboard"
      local pipe = io.popen("exit 0", "w")
      luv.sleep(300)
      pipe:setvbuf "no"
      pipe:write "x"
      luv.run "once"
      print "and still here"
    ]]
    assert.equal("handled and still here\n", said)
  end)
end)
