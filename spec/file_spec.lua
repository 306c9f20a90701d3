-- core.file: a file that appears whole or not at all.
local child = require "spec.support.child"
local core = require "thingsboard.core"
local lfs = require "lfs"
local scratch = require "spec.support.scratch"

describe("file", function()
  local directory

  before_each(function() directory = scratch.new() end)
  after_each(function() scratch.remove(directory) end)

  local function path() return directory .. "/file" end
  local function content()
    local file = io.open(path(), "rb")
    return file and file:read "a"
  end
  local function listing() return io.popen("ls -A " .. directory):read "a" end

  it("appears when it is committed, with what was written", function()
    local file = assert(core.file(path()))
    assert.is_true(file:write "one ")
    assert.is_true(file:write "two\0")
    assert.is_nil(content())
    assert.is_true(file:commit())
    assert.is_true(core.sync(path()))
    assert.equal("one two\0", content())
    assert.equal("file\n", listing())
    assert.equal("600", io.popen("stat -c %a " .. path()):read "l")
  end)

  it("is synced by a process without a standard input, too", function()
    local said = child.run('print(require "thingsboard.core".sync(os.getenv "DIRECTORY"))', { DIRECTORY = directory },
      "exec <&-;")
    assert.equal("true\n", said)
  end)

  it("tells the free space of a path, or why it cannot", function()
    local disk <close> = io.popen("stat -f -c '%a %S' " .. directory)
    local blocks <const>, size <const> = disk:read("n", "n")
    assert.near(blocks * size, core.free_space(directory), blocks * size // 100)
    assert.same({ nil, ("cannot find the free space of %s: No such file or directory"):format(path()) },
      { core.free_space(path()) })
  end)

  it("has each byte, however few are written at once", function()
    local file = assert(core.file(path()))
    for byte in ("1234"):gmatch "." do assert.is_true(file:write(byte)) end
    assert.is_true(file:commit())
    assert.equal("1234", content())
  end)

  it("leaves the path as it was until commit, and when it is closed instead", function()
    io.open(path(), "w"):write("old"):close()
    local file = assert(core.file(path()))
    file:write "new"
    assert.equal("old", content())
    file:close()
    file:close()
    assert.equal("old", content())
    assert.equal("file\n", listing())
  end)

  it("is removed when it is collected, and at the end of its scope", function()
    do
      local file <close> = assert(core.file(path()))
      file:write "new"
    end
    assert.equal("", listing())
    assert(core.file(path())):write "new"
    collectgarbage()
    collectgarbage()
    assert.equal("", listing())
  end)

  it("overwrites the temporary file that a killed process left, when its name is given", function()
    local temporary = path() .. ".new"
    io.open(temporary, "w"):write("left behind by a kill"):close()
    local file = assert(core.file(path(), temporary))
    file:write "new"
    assert.equal("file.new\n", listing())
    assert(file:commit())
    assert.equal("new", content())
    assert.equal("file\n", listing())
    os.execute(("ln -s %s %s"):format(path(), temporary))
    assert.is_nil(core.file(path(), temporary)) -- what a link leads to is not written over
    assert.error_matches(function() core.file(path(), "a\0b") end, "not a file name")
  end)

  it("may be named without a directory", function()
    local before <const> = lfs.currentdir()
    finally(function() lfs.chdir(before) end)
    assert(lfs.chdir(directory))
    local file = assert(core.file "file")
    assert(file:write "here")
    assert.is_true(file:commit())
    assert.equal("here", content())
  end)

  it("replaces the file that was there", function()
    io.open(path(), "w"):write("old"):close()
    local file = assert(core.file(path()))
    file:write "new"
    assert(file:commit())
    assert.equal("new", content())
  end)

  it("reports what fails", function()
    local file, reason = core.file(directory .. "/none/file")
    assert.is_nil(file)
    assert.equal(("cannot write beside %s/none/file: No such file or directory"):format(directory), reason)
    io.open(path(), "w"):write("x"):close()
    file, reason = core.file(path() .. "/below")
    assert.is_nil(file)
    assert.truthy(reason:find("Not a directory", 1, true), reason)
    os.execute("mkdir " .. directory .. "/folder")
    file = assert(core.file(directory .. "/folder"))
    local ok
    ok, reason = file:commit()
    assert.is_nil(ok)
    assert.equal(("cannot write %s/folder: Is a directory"):format(directory), reason)
    assert.equal("file\nfolder\n", listing())
  end)

  it("reports a full disk, and leaves nothing", function()
    -- A limit on the size of files stands in for a full disk: the same write fails, at the same place.
    local script <close> = assert(io.open(directory .. "/script", "w"))
    script:write(([[
      local file = assert(require("thingsboard.core").file(%q))
      local ok, reason
      for _ = 1, 100000 // arg[1] do
        ok, reason = file:write(("x"):rep(arg[1]))
        if not ok then break end
      end
      print(reason)
    ]]):format(path()))
    script:close()
    for _, piece in ipairs { 1024, 100000 } do -- some of it fits
      local run <close> = io.popen(("trap '' XFSZ; ulimit -f 16; lua5.4 %s/script %d 2>&1"):format(directory, piece))
      local said <const> = run:read "a"
      assert.truthy(said:find("cannot write .*File too large"), said)
      assert.equal("script\n", listing())
    end
  end)

  it("refuses bad names, and its use after close", function()
    assert.error_matches(function() core.file "" end, "not a file name")
    assert.error_matches(function() core.file "a\0b" end, "not a file name")
    assert.error_matches(function() core.file(("x"):rep(4096)) end, "not a file name")
    assert.matches("name too long", select(2, core.file(("x"):rep(4095))))
    assert.error_matches(function() core.file() end, "string expected")
    local file = assert(core.file(path()))
    file:commit()
    assert.error_matches(function() file:write "x" end, "the file is closed")
    assert.error_matches(function() file:commit() end, "the file is closed")
    assert.equal("thingsboard.file (closed)", tostring(file))
    assert.error_matches(function() file.write({}, "x") end, "thingsboard.file expected")
  end)
end)
