--- Small changes to the code, one after another, and whether a spec notices: first those that touch the file, then,
-- where they pass, all of them. What none notices has survived, and is shown with its line. What does not build without
-- warnings, or makes the same machine code, is not counted.
-- @usage lua5.4 spec/mutants/run.lua MUTATE DIRECTORY SAMPLE SEED [touching]
-- MUTATE is universalmutator's program, DIRECTORY where to copy the tree to; "touching" leaves out the whole suite.
local mutate, directory, sample, seed, touching_only = table.unpack(arg)
sample, seed = math.tointeger(sample), math.tointeger(seed)

-- The specs that touch the files of a folder.
local SPECS = {
  ["csrc/base"] = "file exchange loop body spool leaks fork download system allocations",
  ["csrc/core"] = "exchange system file leaks options misuse telemetry broken_pipe loop",
  ["csrc/digest"] = "checksum leaks download misuse system",
  ["csrc/json"] = "body numbers telemetry misuse allocations",
  ["csrc/http"] = "exchange descriptors leaks system fleet error http2 trust loop misuse allocations lost_connections "
    .. "body download idle",
  ["csrc/process"] = "process leaks descriptors system loop collector broken_pipe",
  ["csrc/spool"] = "spool record_clock leaks outbox outbox_disk outbox_clock outbox_small_disk allocations "
    .. "outbox_migration outbox_clock_restarts fork",
  ["lua/thingsboard"] = "loop telemetry error options claim attribute_updates fleet token_file types adapter_luv "
    .. "outbox rpc_requests process outbox_disk",
  ["lua/thingsboard/adapter"] = "adapter_copas adapter_cqueues adapter_luv",
  ["lua/thingsboard/api"] = "options rpc_requests attribute_updates provision derive_token claim",
  ["lua/thingsboard/command"] = "command types emulator_command", ["lua/thingsboard/collector"] = "collector",
  ["lua/thingsboard/service"] = "service_parts service service_scripts service_reload service_outage "
    .. "service_blocking collector command types",
  ["lua/thingsboard/http"] = "long_poll backoff answer error rpc_requests attribute_updates lies options provision"
    .. " rpc_requests_window",
  ["lua/thingsboard/json"] = "decode options telemetry numbers body", ["lua/thingsboard/loop"] = "loop process fleet",
  ["lua/thingsboard/ota"] = "options download updater updater_limits",
  ["lua/thingsboard/outbox"] = "options outbox_bisect outbox_posts outbox_file record_clock outbox outbox_clock "
    .. "outbox_clock_restarts outbox_sending outbox_disk outbox_migration outbox_answers outbox_trials outbox_confirm "
    .. "outbox_small_disk",
}
for _, names in pairs(SPECS) do
  for name in names:gmatch "%S+" do assert(io.open("spec/" .. name .. "_spec.lua")):close() end
end

local LONGEST, LONGEST_OF_ALL = 400, 3600 -- seconds of a file of specs, and of all: a mutant may never end

local function sh(command, ...)
  return (os.execute("(" .. command:format(...) .. ") >/dev/null 2>&1"))
end

local function lines_of(command, ...)
  local list = {}
  local process <close> = io.popen(command:format(...))
  for line in process:lines() do list[#list + 1] = line end
  return list
end

local tree = directory .. "/tree"
local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end
local function write(path, text)
  local file <close> = assert(io.open(path, "wb"))
  file:write(text)
end

-- What a file is compiled to, without names and lines; nil where it is not.
local function compiled(path)
  if path:find "%.lua$" then
    local out = directory .. "/compiled"
    return sh("cd %s && luac5.4 -s -o %s %s", tree, out, path) and read(out) or nil
  end
  local object = "build/plain/" .. path:match "^csrc/(.+)%.c$" .. ".o"
  if not sh("cd %s && make BUILD=build/plain CFLAGS='-O2 -Werror' %s", tree, object) then return nil end
  return read(tree .. "/" .. object)
end

local function make_test(longest, arguments)
  return sh("cd %s && timeout --kill-after=10 %d make test %s", tree, longest, arguments)
end

-- Whether these specs pass, one file after another until one fails, whose name is returned as well; all of them side by
-- side without a list.
local function pass(names)
  if not names then return make_test(LONGEST_OF_ALL, "") end
  for name in names:gmatch "%S+" do
    local arguments = ("SPECS=spec/%s_spec.lua BUSTED='/usr/bin/busted --no-keep-going'"):format(name)
    if not make_test(LONGEST, arguments) then return false, name end
  end
  return true
end

-- Every line of code, as { path, number }.
local function lines_of_code()
  local found = {}
  for _, path in ipairs(lines_of("cd %s && find csrc lua -name '*.c' -o -name '*.lua' | LC_ALL=C sort", tree)) do
    local number, in_comment = 0, false
    for line in io.lines(tree .. "/" .. path) do
      number = number + 1
      if line:find "^%s*/%*" then in_comment = true end
      -- A field that is nil in a table's constructor is there for its comment alone.
      if not in_comment and line:find "%w" and not line:find "^%s*%-%-" and not line:find "^#include"
        and not line:find "^%s*[%w_]+ = nil," then
        found[#found + 1] = { path, number }
      end
      if line:find "%*/" then in_comment = false end
    end
  end
  return found
end

-- The mutants of a line: their texts.
local function mutants_of(path, number)
  local made = directory .. "/made"
  assert(sh("rm -rf %s && mkdir %s && echo %d >%s/lines", made, made, number, made))
  local rules = path:find "%.lua$" and "none spec/mutants/lua.rules" or "c"
  sh("cd %s && %s %s %s --noCheck --mutantDir %s --lines %s/lines", tree, mutate, path, rules, made, made)
  local texts = {}
  for _, name in ipairs(lines_of("ls -v %s/*.mutant.* 2>/dev/null", made)) do
    local text = read(name)
    -- A line "continue;" more is no statement of Lua; in a table it is a nil, and in a long string a word more.
    if not path:find "%.lua$" or not text:find "\n%s*continue;\n" then texts[#texts + 1] = text end
  end
  return texts
end

-- The line in which two texts differ first: its number, and how it is in both.
local function difference(before, after)
  local number, next_after = 0, after:gmatch "[^\n]*"
  for line in before:gmatch "[^\n]*" do
    number = number + 1
    local other = next_after()
    if line ~= other then return number, line, other or "" end
  end
end

assert(sh("rm -rf %s && mkdir -p %s", directory, tree))
assert(sh("tar -cf - --exclude=./build --exclude=./.git . | tar -xf - -C %s", tree))
assert(pass "body", "the specs of the tree as it is do not pass")
math.randomseed(seed)
local code = lines_of_code()
local tried, survived = 0, 0
while tried < sample do
  local path, number = table.unpack(code[math.random(#code)])
  local texts = mutants_of(path, number)
  local before, text = read(tree .. "/" .. path), texts[1] and texts[math.random(#texts)]
  if text and text ~= before then
    local was = assert(compiled(path))
    write(tree .. "/" .. path, text)
    local is = compiled(path)
    if is and is ~= was then
      tried = tried + 1
      local from = os.time()
      assert(sh("cd %s && make --silent", tree))
      local passed, name = pass(assert(SPECS[path:match "^(.*)/"], path))
      local noticed = not passed
      local by = noticed and "noticed by " .. name or "survives the specs that touch it"
      if not noticed and not touching_only then
        noticed = not pass()
        by = noticed and "noticed by the whole suite" or "SURVIVES"
      end
      survived = survived + (noticed and 0 or 1)
      local at, line, other = difference(before, text)
      print(("%s:%d: %s, %d s\n  - %s\n  + %s"):format(path, at, by, os.time() - from, line, other))
      io.stdout:flush()
    end
    write(tree .. "/" .. path, before)
    assert(sh("cd %s && make --silent", tree))
  end
end
assert(sh("rm -rf %s", directory))
print(("%d mutants of seed %d: %d noticed, %d survived"):format(tried, seed, tried - survived, survived))
