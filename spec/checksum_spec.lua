local core = require "thingsboard.core"

local ALGORITHMS <const> = { "MD5", "SHA256", "SHA384", "SHA512", "CRC32", "MURMUR3_32", "MURMUR3_128" }

local INPUTS <const> = setmetatable({ ["1 MiB of zero bytes"] = ("\0"):rep(1 << 20) }, {
  __index = function(_, name) return (assert(name:match('^"(.*)"$'), name)) end,
})

describe("a checksum", function()
  for line in io.lines("spec/data/checksums.txt") do
    local input, algorithm, hex = line:match("^([^#].-) | (%S+) | (%x+)$")
    if input then
      it(("of %s by %s is the server's"):format(input, algorithm), function()
        assert.equal(hex, core.checksum(algorithm):update(INPUTS[input]):hex())
      end)
    end
  end

  it("of nothing is as known", function()
    local known <const> = {
      MD5 = "d41d8cd98f00b204e9800998ecf8427e",
      SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      CRC32 = "00000000",
      MURMUR3_32 = "00000000",
      MURMUR3_128 = ("0"):rep(32),
    }
    for algorithm, hex in pairs(known) do assert.equal(hex, core.checksum(algorithm):hex()) end
  end)

  for _, algorithm in ipairs(ALGORITHMS) do
    describe("by " .. algorithm, function()
      local bytes = {}
      for i = 1, 67 do bytes[i] = string.char((i * 151 + 200) & 255) end
      local text <const> = table.concat(bytes)

      it("is the same wherever the bytes are split", function()
        for length = 0, #text do
          local whole <const> = core.checksum(algorithm):update(text:sub(1, length)):hex()
          for first = 0, length do
            local parts <const> = core.checksum(algorithm):update(text:sub(1, first))
            parts:update(text:sub(first + 1, length))
            assert(parts:hex() == whole, ("%d bytes and %d"):format(first, length - first))
          end
        end
      end)

      it("is the same in three parts and byte by byte", function()
        local whole <const> = core.checksum(algorithm):update(text):hex()
        for first = 0, 20 do
          for second = first, first + 20 do
            local sum <const> = core.checksum(algorithm):update(text:sub(1, first))
            assert.equal(whole, sum:update(text:sub(first + 1, second)):update(text:sub(second + 1)):hex())
          end
        end
        local sum <const> = core.checksum(algorithm)
        for byte in text:gmatch(".") do sum:update(byte) end
        assert.equal(whole, sum:hex())
      end)

      it("can be asked for in between, and again", function()
        local sum <const> = core.checksum(algorithm)
        for length = 1, #text do
          local expected <const> = core.checksum(algorithm):update(text:sub(1, length)):hex()
          sum:update(text:sub(length, length))
          assert.equal(expected, sum:hex())
          assert.equal(expected, sum:hex())
        end
      end)

      it("takes large pieces", function()
        local piece <const> = text:rep(100000)
        local once, pieces = core.checksum(algorithm), core.checksum(algorithm)
        once:update(piece:rep(4))
        for _ = 1, 4 do pieces:update(piece) end
        assert.equal(once:hex(), pieces:hex())
      end)

      it("raises once it is closed", function()
        local sum <const> = core.checksum(algorithm):update("x")
        assert.is_nil(sum:close())
        sum:close()
        assert.has_error(function() sum:hex() end, "calling 'hex' on bad self (the checksum was closed)")
        assert.has_error(function() sum:update("x") end, "calling 'update' on bad self (the checksum was closed)")
        assert.equal(("thingsboard.checksum (%s, closed)"):format(algorithm), tostring(sum))
      end)

      it("closes at the end of its scope", function()
        local kept
        do
          local sum <close> = core.checksum(algorithm)
          kept = sum
        end
        assert.has_error(function() kept:hex() end)
      end)
    end)
  end

  it("tells what it is", function()
    assert.equal("thingsboard.checksum (SHA256)", tostring(core.checksum "SHA256"))
  end)

  it("of an unknown algorithm is refused with the list of those there are", function()
    for _, name in ipairs { "md5", "SHA1", "", "SHA256\0" } do
      local ok, message = pcall(core.checksum, name)
      assert.is_false(ok)
      assert.truthy(message:find("(one of " .. table.concat(ALGORITHMS, ", ") .. " expected)", 1, true))
    end
    assert.has_error(function() core.checksum() end)
    assert.has_error(function() core.checksum {} end)
  end)

  it("takes nothing but bytes, and no other object", function()
    local sum <const> = core.checksum "MD5"
    assert.has_error(function() sum:update() end)
    assert.has_error(function() sum:update {} end)
    assert.has_error(function() sum.update(io.stdout, "x") end)
    assert.has_error(function() sum.hex(core.body()) end)
  end)
end)
