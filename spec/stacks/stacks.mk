# The specs on what else devices have: a router's libraries and processors, another Lua, another libcurl. All is built
# from source into build/stacks, once.

STACKS = $(BUILD)/stacks

# on-stack STACK: the environment in which lua5.4 is a stack's Lua, with its modules, for specs that start it, too. The
# emulator runs under the machine's own. Busted's Lua files are Debian's, its C modules the stack's.
on-stack = env EMULATOR_LUA="env -u LUA_PATH -u LUA_CPATH $$(command -v $(LUA))" PATH="$(CURDIR)/$(1)/bin:$$PATH" \
  LUA_CPATH="$(1)/module/?.so;$(1)/modules/?.so" \
  LUA_PATH="lua/?.lua;lua/?/init.lua;./?.lua;spec/stacks/busted/?.lua;$(1)/modules/?.lua;/usr/share/lua/5.4/?.lua;/usr/share/lua/5.4/?/init.lua"

# stack-test STACK SPECS
stack-test = $(call lanes,$(2)) $(call on-stack,$(1)) lua5.4 $(BUSTED) --loaders=lua --exclude-tags=host $(2)

# Those that need no library of the machine's, no other loop, and no more speed than an emulated processor has.
STACK_SPECS = $(patsubst %,spec/%_spec.lua,numbers decode body checksum file backoff options error telemetry claim \
  provision exchange trust loop spool outbox outbox_sending rpc_requests attribute_updates download updater examples)

# ROUTER=mips: big-endian, 32 bits, without an FPU; ROUTER=armv7; both by default.
ROUTER = mips armv7

# Before release 3, mbed TLS knows no addresses in certificates.
MBEDTLS_HOST = EMULATOR_TLS_HOST=localhost

router-test: $(ROUTER:%=router-test-%)

router-test-%: ready-for-test
	nice -n 15 spec/stacks/router $* $(STACKS)
	nice -n 15 $(MAKE) --no-print-directory all BUILD=$(STACKS)/$*/module CC=$(CURDIR)/$(STACKS)/$*/bin/cc CRYPTO=mbedtls \
	  CFLAGS="-Os -isystem $(CURDIR)/$(STACKS)/$*/root/usr/include" LDFLAGS="-s -L$(STACKS)/$*/root/usr/lib" \
	  LUA_INCDIR=$(CURDIR)/$(STACKS)/$*/root/usr/include/lua5.4
	@$(MBEDTLS_HOST) $(call stack-test,$(STACKS)/$*,$(STACK_SPECS))
	@$(MBEDTLS_HOST) $(call on-stack,$(STACKS)/$*) lua5.4 spec/stacks/memory.lua

# LUA_VERSION=5.4.9 for that.
LUA_VERSION = 5.5.1

lua-test: ready-for-test
	nice -n 15 spec/stacks/lua $(LUA_VERSION) $(STACKS)
	$(MAKE) --no-print-directory all BUILD=$(STACKS)/lua-$(LUA_VERSION)/module LUA_INCDIR=$(STACKS)/lua-$(LUA_VERSION)/include
	@$(call stack-test,$(STACKS)/lua-$(LUA_VERSION),$(STACK_SPECS))

# The specs over sockets with another libcurl, with the oldest and the newest by default.
CURL = 7.81.0 8.22.0
CURL_SPECS = $(patsubst %,spec/%_spec.lua,attribute_updates broken_pipe claim download error examples exchange fleet fork \
  http2 idle lies lies_polls long_poll loop lost_connections network outbox_sending provision rpc_requests system telemetry trust updater)

curl-test: $(CURL:%=curl-test-%)

curl-test-%: ready-for-test
	nice -n 15 spec/stacks/curl $* $(STACKS)
	$(MAKE) --no-print-directory test SPECS="$(CURL_SPECS)" BUILD=$(STACKS)/curl-$*/module \
	  CFLAGS="-O2 -g -isystem $(CURDIR)/$(STACKS)/curl-$*/include" \
	  LDFLAGS="-L$(STACKS)/curl-$*/lib -Wl,-rpath,$(CURDIR)/$(STACKS)/curl-$*/lib"

.PHONY: router-test lua-test curl-test
