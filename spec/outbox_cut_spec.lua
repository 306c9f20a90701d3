-- An outbox whose power is cut at every point where something becomes durable, and at points between them: what was
-- recorded is there when it comes back. A thousand cuts; five thousand
-- by `make torture-outbox`, any number by THINGSBOARD_CUTS.
local emulator = require "spec.support.emulator"
local library = require "spec.support.library"
local scratch = require "spec.support.scratch"
local tb = require "thingsboard"

local powercut = library.load "powercut"
local CUTS = tonumber(os.getenv "THINGSBOARD_CUTS") or 1000

describe("an outbox whose power is cut", function()
  local e, directory

  setup(function()
    e = emulator.start()
    directory = scratch.quick() -- powercut.c decides what is durable
    powercut.install()
  end)

  teardown(function()
    powercut.remove()
    scratch.remove(directory)
    e:stop()
  end)

  -- One life of a device: puts, attributes, sends, checkpoints, in an order that the seed decides. Ends at the first
  -- call that fails. Returns what was acknowledged: a set of records' ids, and the last attribute.
  local function live(dev, path, seed, acknowledged)
    local state = seed
    local function pick(most)
      state = (state * 1103515245 + 12345) & 0x7fffffff
      return (state >> 16) % most + 1
    end
    local outbox, id = dev:outbox { path = path }, 0
    local function record(size)
      id = id + 1
      return { id = id, text = size and ("x"):rep(size) or nil }
    end
    local steps = {
      function()
        if not outbox:put(record()) then return false end
        acknowledged.records[id] = true
        return true
      end,
      function()
        local list = { record(), record(), record(pick(3000)) }
        if not outbox:put(list) then return false end
        for _, values in ipairs(list) do acknowledged.records[values.id] = true end
        return true
      end,
      function()
        if not outbox:put(record(20000)) then return false end
        acknowledged.records[id] = true
        return true
      end,
      function()
        id = id + 1
        if not outbox:attributes { last = id, ["key" .. pick(3)] = true } then return false end
        acknowledged.attribute = id
        return true
      end,
      function() -- which would go on trying when the power has gone
        local sent
        local task = tb.spawn(function() sent = outbox:drain { deadline = 10 } end)
        while not task:done() and not powercut.gone() do tb.sleep(0.001) end
        task:cancel()
        return sent
      end,
      function()
        outbox:close()
        outbox = not powercut.gone() and dev:outbox { path = path }
        return outbox
      end,
    }
    local weights = { 1, 1, 1, 1, 2, 2, 3, 4, 4, 5, 6 }
    local last = outbox and 20 or 0
    for _ = 1, last do
      if not steps[weights[pick(#weights)]]() then break end
    end
    if outbox then outbox:close() end
  end

  -- Lives until the power goes at that point; then the power comes back, and all that was acknowledged must arrive.
  -- Returns how many points there were.
  local function cut(path, seed, ...)
    local token = e:create_device {}
    local acknowledged = { records = {} }
    powercut.arm(...)
    do
      local dev <close> = tb.device { url = e.url, token = token }
      live(dev, path, seed, acknowledged)
    end
    local gone, points, syncs = powercut.gone()
    powercut.restore()
    local dev <close> = tb.device { url = e.url, token = token }
    local outbox <close> = assert(dev:outbox { path = path })
    assert(outbox:put { id = -1 })
    assert(outbox:drain { deadline = 10 })
    assert.equal(0, outbox:stats().records)
    local arrived = {}
    for _, entry in ipairs(e:telemetry(token)) do
      if entry.key == "id" then arrived[tonumber(entry.value)] = true end
    end
    assert.is_true(arrived[-1])
    for id in pairs(acknowledged.records) do assert(arrived[id], ("record %d is lost"):format(id)) end
    if acknowledged.attribute then
      local last = e:attributes(token, "client").last
      assert(last and tonumber(last.value) >= acknowledged.attribute, "an attribute is lost")
    end
    outbox:close()
    os.remove(path)
    return gone, points, syncs
  end

  it("loses nothing that it has acknowledged, and opens again", function()
    local path, cuts, seed = directory .. "/outbox", 0, 0
    while cuts < CUTS do
      seed = seed + 1
      local _, points, syncs = cut(path, seed)
      assert.is_true(syncs > 5)
      -- Every sync in turn, with nothing of what was not synced and with some of it; then points among all.
      local function try(n, what, chance)
        if cuts >= CUTS then return end
        cuts = cuts + 1
        local well, said = pcall(cut, path, seed, n, what, chance)
        if not well then
          local most = what == "sync" and syncs or points
          error(("life %d, %s %d of %d, chance %d: %s"):format(seed, what, n, most, chance, tostring(said)))
        end
      end
      for n = 1, syncs do
        try(n, "sync", 0)
        try(n, "sync", seed * 1000 + n)
      end
      for n = seed % 7 + 1, points, 7 do try(n, "any", seed * 1000 + n) end
    end
    for _, name in ipairs(scratch.files(directory)) do assert.is_nil(name:find "damaged") end
  end)
end)
