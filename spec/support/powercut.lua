--- Power cuts for specs: builds powercut.c, and hands out its functions. See there.
local library = "build/spec/powercut.so"
assert(os.execute("make --no-print-directory --silent " .. library))
return assert(package.loadlib(library, "luaopen_powercut"))()
