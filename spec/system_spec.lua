-- Calls of the system and of the crypto library that fail: each is an error that says so, nothing is left behind, and
-- the next call works.
local child = require "spec.support.child"
local emulator = require "spec.support.emulator"
local library = require "spec.support.library"

local EINTR, EIO, EBADF, EINVAL, EMFILE, ENOSPC = 4, 5, 9, 22, 24, 28

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
      prints("^false\t.*cannot catch signals: .+\nUSR1\n$", [[
        local poller = require "thingsboard.process".poller()
        refuse("epoll_ctl", %d)
        print(pcall(poller.catch, poller, "USR1", true))
        poller:catch("USR1", true)
        os.execute "kill -USR1 $PPID"
        print((poller:step()))
      ]], ENOSPC)
    end)

    it("a call whose socket cannot be watched ends, and others go on", function()
      prints("^memory\ttrue\ntrue\n$", [[
        assert(post())
        local other = tb.spawn(function() return tb.device({ url = URL, token = TOKEN }):send_rpc "getTime" end)
        tb.sleep(0.2)
        refuse("epoll_ctl", %d)
        local ok, err = post()
        print(ok or err.kind, ok or err.retryable)
        print((post()))
        other:cancel()
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
      prints("^9223372036854775807\n$", [[
        refuse "statvfs"
        print(core.free_space "/")
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
