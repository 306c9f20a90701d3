-- The host in C of examples/embed, built as it stands there and run against the emulator.
local socket = require "socket"
local emulator = require "spec.support.emulator"
local scratch = require "spec.support.scratch"

describe("the host in C", function()
  local e, directory, program

  setup(function()
    e = emulator.start()
    directory = scratch.new()
    program = directory .. "/embed"
    assert(os.execute(("make --no-print-directory BUILD=%s CFLAGS='-O1 -g -Werror' %s >/dev/null")
      :format(directory, program)))
  end)

  teardown(function()
    scratch.remove(directory)
    e:stop()
  end)

  -- Starts it in the background; what it says goes to a file, and its exit status behind that. It ends in any case: it
  -- holds the emulator's pipe open, too, which would wait for it.
  local function start(command, script, ...)
    local run = { output = directory .. "/output", pid_file = directory .. "/pid" }
    os.remove(run.output)
    os.remove(run.output .. ".status")
    os.execute(("{ timeout 60 %s %s %s & echo $! >%s; wait $!; echo $? >%s.status; } >%s 2>&1 &"):format(command,
      script, table.concat({ ... }, " "), run.pid_file, run.output, run.output))
    return run
  end

  local function read(name)
    local file = io.open(name)
    local text = file and file:read("a")
    if file then file:close() end
    return text
  end

  local function finish(run)
    local deadline = socket.gettime() + 60
    while not (read(run.output .. ".status") or ""):find("\n") do
      assert(socket.gettime() < deadline, "it does not end; it said: " .. (read(run.output) or ""))
      socket.sleep(0.02)
    end
    local said = read(run.output)
    return tonumber(read(run.output .. ".status")), said, tonumber(said:match("beats: (%d+)"))
  end

  local function wait_for_telemetry(token, count)
    local deadline = socket.gettime() + 60
    while #e:telemetry(token) < count do
      assert(socket.gettime() < deadline, "no telemetry comes")
      socket.sleep(0.02)
    end
  end

  it("serves a script to its end while its own timer goes on", function()
    local token = e:create_device {}
    local run = start(program, "examples/embed/device.lua", e.url, token)
    wait_for_telemetry(token, 3)
    local request = e:rpc(token, { method = "stop", timeout = 5000 })
    assert.equal('{"method":"stop"}', e:rpc_result(request, 5).body)
    local status, said, beats = finish(run)
    assert.equal(0, status)
    assert.matches("reporter closed", said)
    assert.is_true(beats >= 8, "beats: " .. beats) -- 0.4 s at least, 20 a second
  end)

  it("ends on a signal, and what its tasks have to close is closed", function()
    local token = e:create_device {}
    local run = start(program, "examples/embed/device.lua", e.url, token)
    wait_for_telemetry(token, 1)
    os.execute("kill -TERM " .. read(run.pid_file))
    local status, said = finish(run)
    assert.equal(0, status)
    assert.matches("reporter closed", said)
  end)

  it("tells of a script's error, and where it was", function()
    local run = start(program, "examples/embed/device.lua", "nowhere", "T")
    local status, said = finish(run)
    assert.equal(1, status)
    assert.matches("option 'url'", said)
    assert.matches("device.lua:%d+: in main chunk", said)
  end)

  it("leaks nothing", function()
    local token = e:create_device {}
    local run = start("valgrind --quiet --error-exitcode=9 --leak-check=full " .. program, "examples/embed/device.lua",
      e.url, token)
    wait_for_telemetry(token, 1)
    e:rpc(token, { method = "stop", timeout = 20000 })
    local status, said = finish(run)
    assert.equal(0, status)
    assert.matches("^reporter closed\nbeats: %d+\n$", said)
  end)
end)
