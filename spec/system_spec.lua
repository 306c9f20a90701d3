-- Calls of the system and of the crypto library that fail: each is an error that says so, nothing is left behind, and
-- the next call works.
local child = require "spec.support.child"
local emulator = require "spec.support.emulator"
local library = require "spec.support.library"

local EINTR, EIO, EBADF, EAGAIN, ENOMEM, EINVAL, EMFILE, ENOSPC, ENOSYS = 4, 5, 9, 11, 12, 22, 24, 28, 38

describe("when the system refuses", function()
  local e, module

  setup(function()
    e = emulator.start()
    module = library.build "refuse"
  end)

  teardown(function() e:stop() end)

  before_each(function() e:clear() end)

  local function prints(expected, script, ...)
    local said = child.run(([[
      local core, tb = require "thingsboard.core", require "thingsboard"
      local refuse = assert(package.loadlib(%q, "luaopen_refuse"))()
      local URL, TOKEN = %q, %q
      local PATH = os.tmpname()
      os.remove(PATH)
      local function post() return tb.device({ url = URL, token = TOKEN }):send_telemetry { a = 1 } end
      local function there() return io.popen("ls " .. PATH .. "* 2>/dev/null"):read "a" ~= "" end
    ]]):format(module, e.url, e.token) .. script:format(...),
      { LD_PRELOAD = library.preload "refuse" })
    assert.matches(expected, said)
  end

  describe("descriptors,", function()
    it("there is no reactor", function()
      prints("^false\t.*cannot make a reactor: .+\ntrue\n$", [[
        refuse("epoll_create1", %d)
        print(pcall(core.reactor))
        print((post()))
      ]], EMFILE)
    end)

    it("there is no timer for a foreign loop, until there is", function()
      for _, call in ipairs { "timerfd_create", "epoll_ctl" } do
        prints("^false\t.*cannot make the reactor's timer: .+\nnumber\n$", [[
          local reactor = core.reactor()
          refuse(%q, %d)
          print(pcall(reactor.pollfd, reactor))
          print(type(reactor:pollfd()))
        ]], call, ENOSPC)
      end
    end)

    it("no signal is caught, until there are", function()
      prints("^false\t.*cannot make a poller: .+\n" .. ("false\t.*cannot catch signals: .+\n"):rep(2) .. "USR1\n$", [[
        local process = require "thingsboard.process"
        refuse("epoll_create1", %d)
        print(pcall(process.poller))
        local poller = process.poller()
        refuse("eventfd", %d)
        print(pcall(poller.catch, poller, "USR1", true))
        refuse("epoll_ctl", %d)
        print(pcall(poller.catch, poller, "USR1", true))
        poller:catch("USR1", true)
        os.execute "kill -USR1 $PPID"
        print((poller:step()))
      ]], EMFILE, EMFILE, ENOSPC)
    end)

    it("no program is started, and none is left of those that there are", function()
      prints(("^" .. ("nil\tcannot run true: .+\n"):rep(4) .. "0\n$"), [[
        local descriptors, process = require "spec.support.descriptors", require "thingsboard.process"
        local before = descriptors()
        for made = 0, 2 do
          refuse("pipe2", %d, made)
          print(process.spawn { "true" })
        end
        refuse("fork", %d)
        print(process.spawn { "true" })
        print(descriptors() - before)
      ]], EMFILE, EAGAIN)
    end)

    it("a call whose socket cannot be watched ends, and others go on", function()
      prints("^memory\ttrue\nmemory\ttrue\nfalse\ttrue\n$", [[
        assert(post())
        local dev, others = tb.device { url = URL, token = TOKEN }, {}
        for n = 1, 2 do
          others[n] = tb.spawn(function() return dev:send_rpc "getTime" end) -- on the handle of the one that ended
          tb.sleep(0.2)
          refuse("epoll_ctl", %d)
          local ok, err = dev:send_telemetry { a = 1 }
          print(ok or err.kind, ok or err.retryable)
        end
        print(others[1]:done() or others[2]:done(), (post()))
        for _, other in ipairs(others) do other:cancel() end
      ]], ENOSPC)
    end)

    it("a wait that fails raises, one that a signal ends does not", function()
      prints("^false\t.*cannot wait: .+\ntrue\n$", [[
        local reactor = core.reactor()
        refuse("epoll_wait", %d)
        print(pcall(reactor.step, reactor, 0))
        refuse("epoll_wait", %d)
        print(pcall(reactor.step, reactor, 0))
      ]], EBADF, EINTR)
    end)
  end)

  describe("what older systems do not have,", function()
    it("a program inherits no descriptor all the same", function()
      prints("^0\n1\n2\n3\n$", [[
        local open <close> = assert(io.open "/etc/passwd")
        refuse("close_range", %d)
        io.write(assert(require "thingsboard.loop.child".run(require "thingsboard.loop".default(), {
          "ls", "/proc/self/fd",
        })).output)
        assert(open)
      ]], ENOSYS)
    end)

    it("a program's end is noticed all the same", function()
      prints("^3\tsaid\tnil\n$", [[
        local process = require "thingsboard.process"
        refuse("pidfd_open", %d)
        local result = assert(require "thingsboard.loop.child".run(require "thingsboard.loop".default(), {
          "sh", "-c", "printf said; exit 3",
        }))
        refuse("pidfd_open", %d)
        print(result.code, result.output, (assert(process.spawn { "true" }):pidfd()))
      ]], ENOSYS, ENOSYS)
    end)
  end)

  describe("libcurl memory,", function()
    local prelude <const> = [[
      local reactor = core.reactor()
      local function new_client() return core.client(reactor, { prefix = URL .. "/api/v1/" .. TOKEN }, 1000) end
      local function start(client, path) return client:start("GET", path or "/attributes", nil, 10000) end
      local function result(exchange)
        local deadline = core.monotonic() + 20
        while not exchange:done() do
          assert(core.monotonic() < deadline)
          reactor:step(1)
        end
        local status, code = exchange:result()
        return status or code
      end
      local client = new_client()
    ]]

    it("no call is started, until there is", function()
      prints("^false\t.*not enough memory\n200\n$", prelude .. [[
        refuse "curl_multi_add_handle"
        print(pcall(start, client))
        print(result(start(client)))
      ]])
    end)

    it("all calls that it works on end, those of other pools go on, and so does the next", function()
      for _, number in ipairs { EIO, ENOMEM } do
        prints("^OUT_OF_MEMORY\tOUT_OF_MEMORY\tfalse\n200\t408\t200\n$", prelude .. [[
          local clients = {}
          for n = 1, 256 do clients[n] = new_client() end -- more than one pool takes
          local other, poll = start(clients[256], "/rpc?timeout=500"), start(client, "/rpc?timeout=20000")
          for _ = 1, 5 do reactor:step(0.02) end
          refuse("curl_multi_socket_action", %d)
          local second = start(client)
          print(result(poll), result(second), other:done())
          print(result(start(client)), result(other), result(start(clients[1])))
        ]], number)
      end
    end)

    it("nor for what is to replace that, it is asked again", function()
      prints("^OUT_OF_MEMORY\nfalse\t.*not enough memory\n200\n$", prelude .. [[
        refuse("curl_multi_socket_action", %d)
        print(result(start(client)))
        refuse "curl_multi_init"
        print(pcall(start, client))
        print(result(start(client)))
      ]], ENOMEM)
    end)
  end)

  it("libcurl any word of what is wrong, there is one all the same", function()
    prints("^%d%d\n$", [[
      local reactor = core.reactor()
      local client <close> = core.client(reactor, { prefix = URL .. "/api/v1/" .. TOKEN }, 1000)
      local said, count = { ["libcurl failed"] = true }, 0
      for number = 1, 99 do
        refuse("curl_multi_info_read", number)
        local exchange <close> = client:start("GET", "/attributes", nil, 10000)
        while not exchange:done() do reactor:step(1) end
        local _, code, words = exchange:result()
        assert(code ~= "HEADERS_TOO_LARGE") -- libcurl's word for them may be the one for no memory
        if code == "CURLE_" .. number then
          assert(words == "libcurl failed")
        else
          count = count + 1
          assert(not said[words] and words:find "^%%a[%%w '/,]+%%w$", words)
          said[words] = true
        end
      end
      print(count)
    ]])
  end)

  describe("a file", function()
    it("a write in parts or after a signal is one all the same", function()
      for _, number in ipairs { 0, EINTR } do
        prints("^true\ntrue\nabcdefg$", [[
          local file = core.file(PATH)
          refuse("write", %d)
          print(file:write "abcdefg")
          print(file:commit())
          io.write(io.open(PATH):read "a")
          os.remove(PATH)
        ]], number)
      end
    end)

    it("to be written, the error says so", function()
      prints("^nil\tcannot write /.+: .+\nfile\tfalse\n$", [[
        local file = core.file(PATH)
        refuse("write", %d)
        print(file:write "abcdefg")
        file:close()
        local dev = tb.device { url = URL, token = TOKEN }
        refuse("write", %d)
        local _, err = tb.provision { url = URL, key = "k", secret = "s", store = PATH .. "/none/x" }
        print(err.kind, there())
      ]], EIO, EIO)
    end)

    it("to be synced, nothing is left", function()
      prints("^nil\tcannot write /.+: .+\nfalse\n$", [[
        local file = core.file(PATH)
        refuse("fsync", %d)
        print(file:commit())
        print(there())
      ]], EIO)
    end)

    it("its directory to be opened or synced, the error says so; one that cannot be synced need not be", function()
      prints("^nil\tcannot sync the directory of /.+: .+\nnil\tcannot sync the directory of /.+: .+\ntrue\n", [[
        refuse("open", %d)
        print(core.file(PATH):commit())
        refuse("fsync", %d, 1)
        print(core.file(PATH):commit())
        refuse("fsync", %d, 1)
        print(core.file(PATH):commit())
        os.remove(PATH)
      ]], EMFILE, EIO, EINVAL)
    end)

    it("that others wrote to be synced, the error says so", function()
      prints("^nil\tcannot sync /dev/null: .+\nnil\tcannot open /nonexistent: .+\n$", [[
        refuse("fsync", %d)
        print(core.sync "/dev/null")
        print(core.sync "/nonexistent")
      ]], EIO)
    end)

    it("nothing, and has more space than an integer can say, it is the largest", function()
      prints(("^" .. ("9223372036854775807\n"):rep(2) .. "$"), [[
        refuse "statvfs"
        print(core.free_space "/")
        refuse "statvfs"
        print((select(2, require "thingsboard.process".room "/")))
      ]])
    end)
  end)

  describe("a checksum", function()
    it("to begin, it is not available", function()
      for _, call in ipairs { "EVP_MD_CTX_new", "EVP_DigestInit_ex" } do
        prints("^false\t.*MD5 is not available: the crypto library refuses it\n$", [[
          refuse(%q)
          print(pcall(core.checksum, "MD5"))
        ]], call)
      end
    end)

    it("to go on or to end, it raises", function()
      for _, call in ipairs { "EVP_DigestUpdate", "EVP_MD_CTX_copy_ex", "EVP_DigestFinal_ex", "EVP_MD_CTX_new" } do
        prints("^false\t.*SHA256: the crypto library failed\n$", [[
          local checksum = core.checksum "SHA256"
          refuse(%q)
          print(pcall(function() return checksum:update("abc"):hex() end))
        ]], call)
      end
    end)

    it("of a download, the download fails", function()
      e:fault { path = "/firmware", how = "status", status = 200, body = ("x"):rep(5000), count = 1 }
      prints("^memory\tfalse\n$", [[
        local dev = tb.device { url = URL, token = TOKEN }
        refuse "EVP_DigestUpdate"
        local _, err = dev:firmware { title = "t", version = "1", path = PATH, checksum = "00",
          checksum_algorithm = "SHA256" }
        print(err.kind, there())
      ]])
    end)
  end)
end)
