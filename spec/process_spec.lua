-- Signals and child processes in the loop.
local spec_child = require "spec.support.child"
local count_descriptors = require "spec.support.descriptors"
local child = require "thingsboard.loop.child"
local loop = require "thingsboard.loop"
local process = require "thingsboard.process"
local processes = require "spec.support.processes"
local scratch = require "spec.support.scratch"
local tb = require "thingsboard"
local until_true = require "spec.support.until_true"

describe("a child process", function()
  local directory

  before_each(function() directory = scratch.new() end)
  after_each(function() scratch.remove(directory) end)

  local function run(given) return child.run(loop.default(), given) end

  it("gets its input, gives its output and code", function()
    local text = ("x"):rep(300000) -- more than a pipe holds, both ways
    local result = assert(run { "cat", input = text, max_output = 400000 })
    assert.same({ 0, true, false }, { result.code, result.output == text, result.too_long })
    assert.equal(3, run({ "sh", "-c", "exit 3" }).code)
    assert.equal(9, run({ "sh", "-c", "kill -9 $$" }).signal)
    assert.equal(0, run({ "true", input = text }).code) -- which reads nothing
    assert.equal(directory .. "\n", run({ "pwd", directory = directory }).output)
  end)

  it("is given words, never to a shell", function()
    assert.equal("$(id) `id` ; id\n", run({ "echo", "$(id) `id` ; id" }).output)
  end)

  it("that cannot be started is an error that names it", function()
    local result, reason = run { directory .. "/none" }
    assert.is_nil(result)
    assert.equal(("cannot run %s/none: No such file or directory"):format(directory), reason)
    assert.matches("cannot run echo: ", select(2, run { "echo", directory = directory .. "/none" }))
    assert.error_matches(function() run { "echo", "a\0b" } end, "without NUL")
    assert.error_matches(function() run {} end, "a list of arguments expected")
  end)

  it("is ended when it takes too long, with all that it has started, though it will not hear", function()
    local result = run { "sh", "-c", "sleep 4711 & sleep 4711", timeout = 0.2 }
    assert.same({ true, 15 }, { result.timed_out, result.signal })
    until_true(function() return not processes.find "sleep 4711" end)
    result = run { "sh", "-c", "trap '' TERM; sleep 4712; sleep 4712", timeout = 2 }
    assert.same({ true, 9 }, { result.timed_out, result.signal })
    until_true(function() return not processes.find "sleep 4712" end)
  end)

  it("is ended when it writes too much", function()
    local result = run { "yes", max_output = 1000 }
    assert.same({ true, 1000, 9 }, { result.too_long, #result.output, result.signal })
    result = run { "printf", "as much", max_output = 7 }
    assert.same({ false, "as much", 0 }, { result.too_long, result.output, result.code })
  end)

  it("has ended, though another keeps its output open", function()
    local from = tb.now()
    local result = run { "sh", "-c", "echo done; sleep 9 &" }
    assert.same({ 0, "done\n" }, { result.code, result.output })
    assert.is_true(tb.now() - from < 8000)
  end)

  it("ends with the task that waits for it, unless it is detached", function()
    for detached, number in pairs { [false] = 4713, [true] = 4714 } do
      local task = tb.spawn(run, { "sleep", number, detached = detached })
      until_true(function() return processes.find("sleep " .. number) end)
      task:cancel()
      until_true(function() return detached == (processes.find("sleep " .. number) ~= nil) end)
    end
    os.execute("kill " .. processes.find "sleep 4714")
    assert(run { "sh", "-c", "sleep 4715 >/dev/null &", detached = true }) -- nor what it leaves behind
    os.execute("kill " .. assert(processes.find "sleep 4715"))
  end)

  it("lets others go on meanwhile, and many run beside each other", function()
    local ticks, ended = 0, 0
    local ticker = tb.spawn(function() while true do tb.sleep(0.01) ticks = ticks + 1 end end)
    for _ = 1, 20 do
      tb.spawn(function()
        assert(run { "sleep", "0.3" })
        ended = ended + 1
      end)
    end
    local deadline = tb.now() + 20000
    while ended < 20 and tb.now() < deadline do tb.sleep(0.02) end
    ticker:cancel()
    assert.equal(20, ended)
    assert.is_true(ticks > 10)
  end)

  it("inherits no descriptor and no blocked signal", function()
    local open <close> = assert(io.open("/etc/passwd")) -- which Lua does not mark as close-on-exec
    local on <close> = tb.on_signal("USR1", function() end)
    local result = run { "sh", "-c", "ls /proc/self/fd; grep SigIgn /proc/self/status" }
    local ignored = result.output:match "^0\n1\n2\n3\nSigIgn:%s*(%x+)\n$" -- 3: the folder that ls reads
    assert.equal(0, tonumber(ignored, 16) & 1 << 12) -- SIGPIPE, though this process ignores it
    assert.truthy(open and on)
  end)

  it("runs in a process whose signals were blocked, or ignored, and whose standard descriptors are closed", function()
    local command <const> = "LUA_PATH='%s' LUA_CPATH='%s' env --block-signal=USR1 --ignore-signal=CHLD lua5.4 "
      .. "-e '%s' 2>&1 <&-"
    local pipe <close> = io.popen(command:format(package.path, package.cpath, [[
        local process = require "thingsboard.process"
        local function read_all(spawned)
          local text = ""
          repeat
            local more = process.read(spawned:output())
            text = text .. (more or "")
          until more == ""
          return text
        end
        local cat = assert(process.spawn { "cat" })
        assert(process.write(cat:input(), "said\n", 1) == 5)
        cat:close_input()
        io.write(read_all(cat), read_all(assert(process.spawn { "grep", "SigBlk", "/proc/self/status" })))
        repeat local how = cat:wait() until how -- the system has waited for it
        local poller = process.poller()
        poller:catch("USR1", true)
        os.execute "kill -USR1 $PPID"
        print((poller:step()))]]))
    assert.matches("^said\nSigBlk:%s*0+\nUSR1\n$", pipe:read "a")
  end)

  it("that has ended is not sent a signal, which would reach others", function()
    assert.equal("here\n", spec_child.run [[
      local spawned = assert(require "thingsboard.process".spawn { "true" })
      repeat local how = spawned:wait() until how
      spawned:kill "TERM"
      print "here"
    ]])
  end)

  it("leaves nothing behind", function()
    run { "true" }
    local before <const>, dead <const> = count_descriptors(), processes.dead()
    for _ = 1, 5 do
      run { "true" }
      run { directory .. "/none" }
    end
    assert.same({ before, dead }, { count_descriptors(), processes.dead() })
  end)

  it("takes up to 999 words", function()
    local words = { "echo" }
    for n = 2, 999 do words[n] = "x" end
    assert.equal(("x"):rep(998, " ") .. "\n", run(words).output)
    words[1000] = "x"
    assert.error_matches(function() process.spawn(words) end, "a list of arguments expected")
  end)
end)

describe("a signal", function()
  it("calls each handler in a task of its own, until that is closed", function()
    local said = spec_child.run [[
      local tb = require "thingsboard"
      local function raise(name) io.popen("kill -" .. name .. " $PPID"):close() end
      local first = tb.on_signal("HUP", function(name) tb.sleep(0.01) print("first", name) end)
      local second = tb.on_signal("HUP", function(name) print("second", name) end)
      raise "HUP"
      tb.sleep(0.2)
      first:close()
      raise "HUP"
      tb.sleep(0.2)
      second:close()
      second:close()
      io.stdout:flush()
      raise "HUP"
      print "not reached"
    ]]
    assert.equal("second\tHUP\nfirst\tHUP\nsecond\tHUP\n", said)
  end)

  it("wakes a foreign loop that waits for something else #host", function()
    local said = spec_child.run [[
      local tb = require "thingsboard"
      local cq = require "cqueues".new()
      require "thingsboard.adapter.cqueues".attach(cq)
      tb.on_signal("TERM", function() print "told" os.exit(true, true) end)
      cq:wrap(function() tb.spawn(function() tb.sleep(20) end) tb.sleep(20) end)
      os.execute("(sleep 0.2; kill -TERM $PPID) &")
      local from = tb.now()
      cq:loop()
    ]]
    assert.equal("told\n", said)
  end)

  it("that is unknown, or handled by nothing, is the script's mistake", function()
    assert.error_matches(function() tb.on_signal("KILL", print) end, "there is no signal KILL")
    assert.error_matches(function() tb.on_signal("TERM") end, "handler must be a function")
  end)

  it("of a loop that is closed has the system's default again", function()
    local said = spec_child.run [[
      local tb = require "thingsboard"
      tb.on_signal("USR2", print)
      require "thingsboard.loop".default():close()
      io.popen("kill -USR2 $PPID"):close()
      print "not reached"
    ]]
    assert.equal("", said)
  end)
end)

describe("a process that does not end by itself", function()
  it("is ended some seconds after INT or TERM, whatever it does", function()
    for _, name in ipairs { "INT", "TERM" } do
      local pipe = io.popen(("echo $$; LUA_PATH='%s' LUA_CPATH='%s' exec lua5.4 -e '%s' 2>&1"):format(package.path,
        package.cpath, [[
          local tb = require "thingsboard"
          tb.on_signal("INT", print) tb.on_signal("TERM", print) tb.on_signal("HUP", print)
          require "thingsboard.process".end_within(1, "cut off\n")
          os.execute "kill -HUP $PPID; sleep 1.1" -- which is no request to end
          setmetatable({}, { __gc = function()
            print "loops" io.stdout:flush()
            while true do end
          end })
          collectgarbage()]]))
      local pid = pipe:read("n", "L")
      assert.equal("loops", pipe:read "l")
      os.execute(("kill -%s %d"):format(name, pid))
      assert.equal("cut off\n", pipe:read "a")
      assert.same({ nil, "signal", 14 }, { pipe:close() })
    end
  end)

  it("is ended that long after the first of them, however many follow", function()
    local pipe = io.popen(("echo $$; LUA_PATH='%s' LUA_CPATH='%s' exec lua5.4 -e '%s' 2>&1"):format(package.path,
      package.cpath, [[
        local tb = require "thingsboard"
        tb.on_signal("TERM", print)
        require "thingsboard.process".end_within(1, "cut off\n")
        print "loops" io.stdout:flush()
        while true do end]]))
    local pid = pipe:read("n", "L")
    assert.equal("loops", pipe:read "l")
    local from = tb.now()
    os.execute(("for n in $(seq 100); do kill -TERM %d || exit; sleep 0.1; done >/dev/null 2>&1 &"):format(pid))
    assert.equal("cut off\n", pipe:read "a")
    assert.is_true(tb.now() - from < 8000)
    pipe:close()
  end)

  it("inherits no blocked signal to what a shell runs", function()
    local on <close> = tb.on_signal("TERM", function() end)
    local pipe <close> = io.popen "grep -E 'Sig(Blk|Ign)' /proc/self/status"
    local blocked, ignored = pipe:read("a"):match "SigBlk:%s*(%x+)\nSigIgn:%s*(%x+)"
    assert.equal(0, tonumber(blocked, 16) & 1 << 14)
    assert.equal(0, tonumber(ignored, 16) & 1 << 14)
    assert.truthy(on)
  end)
end)

it("a process without a standard input has a poller and a reactor all the same", function()
  for _, module in ipairs { "process\".poller", "core\".reactor" } do
    local script = ([[
      local make = require "thingsboard.%s
      local made = make()
      print(made:pollfd(), (tostring(made):find "closed"))
      made:step(0)
      made:close()
      print(make():pollfd())
    ]]):format(module)
    local pipe <close> = io.popen(("LUA_PATH='%s' LUA_CPATH='%s' lua5.4 -e '%s' 2>&1 <&-"):format(package.path,
      package.cpath, script))
    assert.equal("0\tnil\n0\n", pipe:read "a") -- the lowest number that is free
  end
end)

describe("a poller", function()
  it("returns a descriptor once each time that it is told to watch it", function()
    local poller <close> = process.poller()
    local spawned <close> = assert(process.spawn { "cat" })
    local input <const>, output <const> = spawned:input(), spawned:output()
    assert.is_true(poller:watch(output, "r"))
    assert.is_nil(poller:step())
    assert.is_true(poller:watch(input, "w"))
    assert.equal(input, poller:step())
    process.write(input, "x", 1)
    local ready
    until_true(function()
      ready = poller:step()
      return ready
    end)
    assert.equal(output, ready)
    assert.is_nil(poller:step()) -- though it is ready still
    assert.is_true(poller:watch(output, "r"))
    assert.equal(output, poller:step())
    local file <close> = assert(io.open "/etc/passwd")
    assert.truthy(file)
    local number <const> = io.popen("ls -l /proc/$PPID/fd"):read("a"):match "(%d+) %-> /etc/passwd"
    assert.is_false(poller:watch(tonumber(number), "r"))
  end)

  it("catches signals one by one, in place of the one before it, and gives them back", function()
    local said = spec_child.run [[
      local process = require "thingsboard.process"
      local function caught() -- USR1 is 10
        for line in io.lines "/proc/self/status" do
          local mask = line:match "^SigCgt:%s*(%x+)"
          if mask then return tonumber(mask, 16) & 1 << 9 ~= 0 end
        end
      end
      local function raise(name) os.execute("kill -" .. name .. " $PPID") end
      local first, second = process.poller(), process.poller()
      for _ = 1, 2 do first:catch("USR1", true) end
      first:catch("USR2", true)
      raise "USR1" raise "USR2" raise "USR1"
      print(first:step(), first:step(), first:step(), (second:step()))
      second:catch("USR1", true)
      raise "USR1"
      print(first:step(), second:step(), (second:step()))
      first:close()
      print(caught())
      raise "USR1"
      print((second:step()))
      raise "USR1"
      second:catch("USR1", false)
      print(caught())
      second:catch("USR1", true) -- what came before it was released is forgotten
      print((second:step()))
      local pipe = io.popen "sleep 0.1; kill -USR1 $PPID; sleep 0.1; echo read" -- goes on behind a signal
      print(pipe:read "l")
      print((second:step()))
      second:close()
      print(caught())
    ]]
    assert.equal("USR1\tUSR2\tnil\tnil\nnil\tUSR1\tnil\ntrue\nUSR1\nfalse\nnil\nread\nUSR1\nfalse\n", said)
  end)
end)

describe("of files", function()
  it("it tells kinds, owners and changes", function()
    local directory = scratch.new()
    finally(function() scratch.remove(directory) end)
    assert(os.execute(([[cd '%s' && echo a >a && chmod 4604 a && mkfifo b && ln -s a c && ln -s none d && cp -p a e &&
      cp -p a f && touch -r a e && touch -d 2001-01-01 f && mkdir g]]):format(directory)))
    local function stat(name, itself) return process.stat(directory .. "/" .. name, itself) end
    local about <const> = stat "a"
    assert.same({ tonumber("4604", 8), 2, io.popen "id -u":read "n" }, { about.mode, about.size, about.uid })
    local kinds = {}
    for name in ("abcg"):gmatch "." do kinds[#kinds + 1] = stat(name).type end
    assert.same({ "file", "other", "file", "directory" }, kinds)
    assert.same({ "other", "other", "file" }, { stat("c", true).type, stat("d", true).type, stat("a", true).type })
    assert.is_nil(stat "d")
    assert.equal(about.changed, stat("c").changed)
    assert.not_equal(about.changed, stat("e").changed) -- another file
    assert(os.execute(("cd '%s' && touch -d 2001-01-01T00:00:00.5 f"):format(directory)))
    local before <const> = stat "f"
    assert(os.execute(("cd '%s' && touch -d 2001-01-01T00:00:00.6 f"):format(directory)))
    assert.not_equal(before.changed, stat("f").changed)
    assert(os.execute(("cd '%s' && touch -d 2001-01-02T00:00:00.5 f"):format(directory)))
    assert.not_equal(before.changed, stat("f").changed)
    assert(os.execute(("cd '%s' && echo more >>f && touch -d 2001-01-01T00:00:00.5 f"):format(directory)))
    assert.not_equal(before.changed, stat("f").changed)
    local disk <close> = io.popen("stat -f -c '%a %S' " .. directory)
    local blocks <const>, size <const> = disk:read("n", "n")
    assert.near(blocks * size, (select(2, process.room(directory))), blocks * size // 100)
  end)

  it("it takes variables out of the environment", function()
    assert.equal("said\nnil\tnil\n\n", spec_child.run([[
      local process = require "thingsboard.process"
      print(process.take_variable "SECRET")
      print(process.take_variable "SECRET", os.getenv "SECRET")
      print(io.popen "printf %s $SECRET":read "a")
    ]], { SECRET = "said" }))
  end)

  it("it tells modes, names and room, or what is wrong", function()
    local directory = scratch.new()
    os.execute(("cd '%s' && echo hello > a && chmod 604 a && mkdir b && chmod 711 b"):format(directory))
    local about = process.stat(directory .. "/a")
    assert.same({ "file", tonumber("604", 8), 6 }, { about.type, about.mode, about.size })
    assert.same({ "directory", tonumber("711", 8) },
      { process.stat(directory .. "/b").type, process.stat(directory .. "/b").mode })
    os.execute(("echo hello again > '%s/a'"):format(directory))
    assert.not_equal(about.changed, process.stat(directory .. "/a").changed)
    local names = process.list(directory)
    table.sort(names)
    assert.same({ "a", "b" }, names)
    local all, free = process.room(directory)
    assert.is_true(all >= free and free > 0)
    local stat <close> = io.popen("stat -f -c '%b %S' " .. directory)
    local blocks, size = stat:read("n", "n")
    assert.equal(blocks * size, all)
    local _, reason, code = process.stat(directory .. "/c")
    assert.same({ directory .. "/c: No such file or directory", 2 }, { reason, code })
    assert.equal(directory .. "/a: Not a directory", select(2, process.list(directory .. "/a")))
    assert.matches("No such file", select(2, process.room(directory .. "/c")))
    scratch.remove(directory)
  end)

  it("it reads and writes as much as there is, at once", function()
    local spawned <close> = assert(process.spawn { "cat" })
    local text <const> = ("x"):rep(100000)
    assert.same({}, { process.read(spawned:output()) }) -- nothing yet
    assert.equal(3, process.write(spawned:input(), "abc", 1))
    assert.equal(1, process.write(spawned:input(), "abc", 3))
    assert.equal(0, process.write(spawned:input(), "abc", 4))
    local got = ""
    until_true(function()
      got = got .. (process.read(spawned:output()) or "")
      return #got == 4
    end)
    assert.equal("abcc", got)
    local stopped <close> = assert(process.spawn { "sleep", "60" })
    repeat local count = process.write(stopped:input(), text, 1) until count < #text
    assert.equal(0, process.write(stopped:input(), text, 1)) -- the pipe is full
    spawned:close_input()
    until_true(function() return process.read(spawned:output()) == "" end)
    assert.same({ nil, "Bad file descriptor" }, { process.read(9999) })
    assert.same({ nil, "Bad file descriptor" }, { process.write(9999, "x", 1) })
    assert.is_false(process.is_terminal(spawned:output()))
  end)

  it("it writes to nobody without a signal", function()
    local said = spec_child.run [[
      local process = require "thingsboard.process" -- alone: nothing ignores SIGPIPE
      local spawned = assert(process.spawn { "true" })
      repeat local how = spawned:wait() until how
      print(process.write(spawned:input(), "x", 1))
      for line in io.lines "/proc/self/status" do
        if line:find "^S%a+Pnd:" or line:find "^SigBlk:" then print(line) end
      end
    ]]
    assert.matches("^nil\tBroken pipe\nSigPnd:%s*0+\nShdPnd:%s*0+\nSigBlk:%s*0+\n", said)
  end)

  it("it opens standard descriptors that are closed, and no others", function()
    local command <const> = "LUA_PATH='%s' LUA_CPATH='%s' lua5.4 -e '%s' <&- 2>&-"
    local pipe <close> = io.popen(command:format(package.path, package.cpath, [[
      local process = require "thingsboard.process"
      local function opened() return process.list "/proc/self/fd" end
      process.open_standard()
      local count = #opened()
      process.open_standard()
      print(#opened() - count)
      for fd = 0, 2, 2 do
        print(io.popen("readlink /proc/$PPID/fd/" .. fd):read "l")
        print(io.popen("cat /proc/$PPID/fdinfo/" .. fd):read "a":match "flags:%s*%d*(%d)\n")
      end]]))
    -- 1 is for writing only, so that it cannot be read; 0 for reading only.
    assert.equal("0\n/dev/null\n1\n/dev/null\n0\n", pipe:read "a")
  end)

  it("a poller that is closed says so, and end_within takes a number of seconds", function()
    local poller = process.poller()
    poller:close()
    poller:close()
    for _, method in ipairs { "pollfd", "watch", "catch", "step" } do
      assert.error_matches(function() poller[method](poller, 0, "r") end, "the poller is closed")
    end
    for _, seconds in ipairs { 0, -1, 1 << 31 } do
      assert.error_matches(function() process.end_within(seconds, "") end, "#1 .*out of range")
    end
    assert.error_matches(function() process.poller():catch("KILL", true) end, "invalid option 'KILL'")
  end)

  it("it takes no number that no descriptor has, and none outside of a text", function()
    local poller = process.poller()
    assert.error_matches(function() poller:watch(9999, "r") end, "cannot watch descriptor 9999: Bad file descriptor")
    for _, fd in ipairs { -1, 1 << 31, (1 << 32) + 1, math.maxinteger, math.mininteger } do
      assert.error_matches(function() process.read(fd) end, "#1 .*not a descriptor")
      assert.error_matches(function() process.write(fd, "x", 1) end, "#1 .*not a descriptor")
      assert.error_matches(function() process.is_terminal(fd) end, "#1 .*not a descriptor")
      assert.error_matches(function() poller:watch(fd, "r") end, "#1 .*not a descriptor")
    end
    poller:close()
    for _, from in ipairs { 0, 3, (1 << 32) + 1, math.maxinteger, math.mininteger } do
      assert.error_matches(function() process.write(1, "x", from) end, "#3 .*out of range")
    end
    assert.error_matches(function() process.spawn(setmetatable({}, { __len = function() return 1 end })) end,
      "a list of arguments expected")
  end)
end)
