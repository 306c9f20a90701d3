# thingsboard: `make demo` shows it at work, `make test` tests it, `make install` installs it.
# On Debian both fetch what is missing, when run by root; elsewhere `make deps` says what is needed.

LUA = lua5.4
BUSTED = /usr/bin/busted
CFLAGS ?= -O2 -g
LUA_INCDIR ?= $(or $(firstword $(wildcard /usr/include/lua5.4 /usr/include/lua-5.4 /usr/local/include)),/usr/include)
PREFIX ?= /usr/local
INST_LIBDIR ?= $(PREFIX)/lib/lua/5.4
INST_LUADIR ?= $(PREFIX)/share/lua/5.4
INST_BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
TYPES_DIR ?= $(PREFIX)/share/lua-thingsboard/types

# Checksums come from OpenSSL's libcrypto; `make CRYPTO=mbedtls` takes them from mbed TLS.
CRYPTO = openssl
CRYPTO_FLAGS_mbedtls = -DTB_MBEDTLS
CRYPTO_LIBS_openssl = -lcrypto
CRYPTO_LIBS_mbedtls = -lmbedcrypto

# On 32 bits, glibc has files above 2 GiB and times past 2038 only when asked for them.
WIDE = -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64

# Without tables for unwinding, an eighth of the module: Lua's errors jump. A Lua built as C++ throws instead, and wants
# -fexceptions among the CFLAGS.
STANDARD = -std=c11 -D_GNU_SOURCE $(WIDE) -Icsrc -fno-asynchronous-unwind-tables $(CRYPTO_FLAGS_$(CRYPTO)) -isystem $(LUA_INCDIR)
WARNINGS = -Wall -Wextra -Wpedantic -Wconversion -Wshadow

# Flags for a small module, where the compiler and the linker take them: no jump table for calls, no padding of functions
# and loops, no copies of what runs often (functions, blocks, heads of loops), no unused
# functions, code and data in one segment.
comma = ,
taken = $(shell echo 'int x;' | $(CC) -Werror -shared -fPIC $(1) -x c -o /dev/null - 2>/dev/null && echo $(1))
taken_of = $(or $(call taken,$(1)),$(foreach flag,$(1),$(call taken,$(flag))))
SMALL := $(call taken_of,-ffunction-sections -freorder-blocks-algorithm=simple -fno-tree-ch -fno-plt -falign-functions=1 -falign-jumps=1 -falign-loops=1 -fno-inline-functions)
SMALL_LINK := $(call taken_of,$(addprefix -Wl$(comma),--gc-sections -z$(comma)now -z$(comma)noseparate-code))

BUILD = build

# A library is its folders.
CORE = $(BUILD)/thingsboard/core.so
SPOOL = $(BUILD)/thingsboard/spool.so
PROCESS = $(BUILD)/thingsboard/process.so
CORE_FOLDERS = base json http digest core
SPOOL_FOLDERS = base spool
PROCESS_FOLDERS = base process
SOURCES = $(wildcard csrc/*/*.c)
HEADERS = $(wildcard csrc/*/*.h)
CORE_SOURCES = $(wildcard $(CORE_FOLDERS:%=csrc/%/*.c))
OBJECTS_OF = $(patsubst csrc/%.c,$(BUILD)/%.o,$(wildcard $(1:%=csrc/%/*.c)))
FACE = $(patsubst lua/%,%,$(shell find lua -name '*.lua'))

PATHS = LUA_PATH="lua/?.lua;lua/?/init.lua;./?.lua;;" LUA_CPATH="$(BUILD)/?.so;;"

# A short line a file; V=1 shows the commands.
ifeq ($(V),)
run = @echo "  $(1) $@"; $(2)
else
run = $(2)
endif

# Only the outbox needs SQLite: without it, all the rest is built.
SQLITE := $(shell echo '\#include <sqlite3.h>' | $(CC) $(CFLAGS) -x c -E - >/dev/null 2>&1 && echo yes)
MODULES = $(CORE) $(PROCESS) $(if $(SQLITE),$(SPOOL))

all: $(MODULES)
	@$(if $(SQLITE),,echo "sqlite3.h is missing: built without thingsboard.spool, which the outbox needs")

$(SPOOL): $(call OBJECTS_OF,$(SPOOL_FOLDERS))
	@mkdir -p $(@D)
	$(call run,LINK,$(CC) -shared $(SMALL_LINK) $(LDFLAGS) -o $@ $^ -lsqlite3)

$(PROCESS): $(call OBJECTS_OF,$(PROCESS_FOLDERS))
	@mkdir -p $(@D)
	$(call run,LINK,$(CC) -shared $(SMALL_LINK) $(LDFLAGS) -o $@ $^)

$(CORE): $(call OBJECTS_OF,$(CORE_FOLDERS))
	@mkdir -p $(@D)
	$(call run,LINK,$(CC) -shared $(SMALL_LINK) $(LDFLAGS) -o $@ $^ -lcurl $(CRYPTO_LIBS_$(CRYPTO)) -lz)

# -MMD: what a file includes is its prerequisite, by the .d file beside the object; and so are the flags, which are here.
$(BUILD)/%.o: csrc/%.c Makefile
	@mkdir -p $(@D)
	$(call run,CC  ,$(CC) $(STANDARD) $(SMALL) -fPIC -fvisibility=hidden $(WARNINGS) $(CFLAGS) -MMD -MP -c -o $@ $<)

-include $(patsubst csrc/%.c,$(BUILD)/%.d,$(SOURCES))

# A host in C, which the specs run.
$(BUILD)/embed: examples/embed/embed.c
	@mkdir -p $(@D)
	$(call run,CC  ,$(CC) $(STANDARD) $(WARNINGS) $(CFLAGS) -o $@ $< -l$(LUA))

# What specs need that Lua does not have. oom.c looks for its callers, which takes tables for unwinding.
SPEC_LIBS_powercut = -lsqlite3
SPEC_LIBS_refuse = -Wl,--no-as-needed -lcrypto

$(BUILD)/spec/%.so: spec/support/%.c Makefile
	@mkdir -p $(@D)
	$(call run,CC  ,$(CC) $(STANDARD) -fasynchronous-unwind-tables $(WARNINGS) -O2 -g -shared -fPIC -o $@ $< $(SPEC_LIBS_$*))

install: all
	install -d $(DESTDIR)$(INST_LIBDIR)/thingsboard $(sort $(dir $(FACE:%=$(DESTDIR)$(INST_LUADIR)/%)))
	install -m 755 $(MODULES) $(DESTDIR)$(INST_LIBDIR)/thingsboard
	for file in $(FACE); do install -m 644 lua/$$file $(DESTDIR)$(INST_LUADIR)/$$file || exit 1; done
	install -d $(DESTDIR)$(INST_BINDIR)
	install -m 755 bin/thingsboard $(DESTDIR)$(INST_BINDIR)
	install -d $(DESTDIR)$(TYPES_DIR)
	cp -r packaging/types/. $(DESTDIR)$(TYPES_DIR)
	install -d $(DESTDIR)$(MANDIR)/man1
	install -m 644 packaging/manual/thingsboard.1 $(DESTDIR)$(MANDIR)/man1

# The emulator, for `thingsboard emulator`: a package of its own.
EMULATOR_DIR ?= $(PREFIX)/share/thingsboard-emulator
install-emulator:
	install -d $(DESTDIR)$(EMULATOR_DIR)/spec/emulator/page
	install -m 644 spec/emulator/*.lua $(DESTDIR)$(EMULATOR_DIR)/spec/emulator
	install -m 644 $(wildcard spec/emulator/page/*.html spec/emulator/page/*.css spec/emulator/page/*.js) \
	  $(DESTDIR)$(EMULATOR_DIR)/spec/emulator/page

uninstall:
	rm -f $(DESTDIR)$(INST_BINDIR)/thingsboard $(DESTDIR)$(MANDIR)/man1/thingsboard.1
	rm -rf $(DESTDIR)$(INST_LIBDIR)/thingsboard $(DESTDIR)$(INST_LUADIR)/thingsboard $(DESTDIR)$(TYPES_DIR) \
	  $(DESTDIR)$(EMULATOR_DIR)

# What demo and test need: fetched if it is not there, and quick if it is.
ready-for-%:
	@./.ci/missing $* $(LUA) $(LUA_INCDIR) >&2 || ./.ci/deps $* >&2
	@$(MAKE) --no-print-directory all >&2

demo: ready-for-demo
	@$(PATHS) $(LUA) examples/demo.lua

SPECS = $(wildcard spec/*_spec.lua)

# Several files run side by side, each in a busted of its own: two for each core, for most wait most of the time.
LANES := $(shell expr 2 '*' $$(getconf _NPROCESSORS_ONLN))
lanes = $(if $(word 2,$(1)),$(LUA) spec/support/lanes.lua $(LANES))

test: ready-for-test
	$(PATHS) exec $(call lanes,$(SPECS)) $(LUA) $(BUSTED) $(SPECS)

# The emulator's page in a headless Chromium: a minute, two on a busy machine.
page-test: ready-for-page
	$(PATHS) exec $(LUA) $(BUSTED) $(wildcard spec/page/*_spec.lua)

# A script of your own, without installing anything: make run SCRIPT=first.lua
run: ready-for-demo
	@$(PATHS) exec $(LUA) $(SCRIPT)

emulator: ready-for-demo
	@$(PATHS) exec $(LUA) spec/emulator/main.lua --page

# What takes minutes by its nature, and says nothing more of memory, stays out; so does what starves lua-cjson, which
# loses memory then, and what has an allocator of its own.
MEMCHECK_SPECS = $(filter-out spec/rpc_requests_window_spec.lua spec/numbers_spec.lua spec/install_spec.lua \
  spec/examples_spec.lua spec/command_spec.lua $(wildcard spec/service_*spec.lua) spec/collector_spec.lua \
  spec/embed_spec.lua spec/network_spec.lua spec/lies_polls_spec.lua spec/outbox_kill_spec.lua spec/outbox_cut_spec.lua \
  spec/allocations_spec.lua spec/leaks_spec.lua spec/memory_spec.lua spec/updater_kill_spec.lua spec/updater_limits_spec.lua \
  spec/manual_spec.lua spec/types_spec.lua spec/links_spec.lua \
  $(wildcard spec/emulator_*_spec.lua),$(wildcard spec/*_spec.lua))

memcheck: ready-for-test
	$(PATHS) exec $(call lanes,$(MEMCHECK_SPECS)) valgrind --quiet --error-exitcode=99 --leak-check=full \
	  --errors-for-leak-kinds=definite --show-leak-kinds=definite --suppressions=.ci/memcheck.supp \
	  $(LUA) $(BUSTED) $(MEMCHECK_SPECS)

SANITIZERS = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer

sanitize: ready-for-test
	$(MAKE) --no-print-directory BUILD=$(BUILD)/sanitize CFLAGS="-O1 -g $(SANITIZERS)" LDFLAGS="$(SANITIZERS)"
	LUA_PATH="lua/?.lua;lua/?/init.lua;./?.lua;;" LUA_CPATH="$(BUILD)/sanitize/?.so;;" \
	  LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 exec $(call lanes,$(MEMCHECK_SPECS)) $(LUA) $(BUSTED) $(MEMCHECK_SPECS)

# The collector at every few instructions of lua/: all of what there is, and the young. Many polls that must end at the
# same time are too slow for that.
COLLECT_SPECS = $(filter-out spec/http2_spec.lua spec/fleet_spec.lua,$(MEMCHECK_SPECS))

collect: ready-for-test
	@mkdir -p $(BUILD)/torture
	$(CC) $(STANDARD) $(WARNINGS) -O2 -shared -fPIC -o $(BUILD)/torture/collect.so spec/torture/collect.c
	for collect in "incremental 211" "generational 29"; do \
	  COLLECTOR=$(CURDIR)/$(BUILD)/torture/collect.so COLLECT="$$collect" $(PATHS) \
	    $(call lanes,$(COLLECT_SPECS)) $(LUA) $(BUSTED) --helper=spec/torture/collect.lua $(COLLECT_SPECS) || exit 1; \
	done

# What takes minutes: memory that runs out, networks that fail, an hour of many devices, kills and power cuts, and what
# is fuzzed, in short. One after another.
torture:
	$(MAKE) --no-print-directory torture-memory
	$(MAKE) --no-print-directory torture-network
	$(MAKE) --no-print-directory torture-soak
	$(MAKE) --no-print-directory torture-outbox
	$(MAKE) --no-print-directory fuzz SECONDS=15

# The allocations of every story fail in turn, where it has more than 300 of them some 150, evenly spread, others with
# another SEED: TORTURE=1 for each, which takes long, TORTURE=7 for every seventh, TORTURE="1 TLS" for each of one
# story. A failure tells how to repeat it.
torture-memory: ready-for-test $(BUILD)/spec/oom.so
	$(PATHS) OOM=$(CURDIR)/$(BUILD)/spec/oom.so LD_PRELOAD=$(CURDIR)/$(BUILD)/spec/oom.so \
	  $(LUA) spec/torture/memory.lua $(TORTURE)

# In namespaces, where the system allows them; NETWORKS="'silence' 'no names'" for some of them.
torture-network: ready-for-test
	$(PATHS) $(LUA) spec/torture/network.lua $(NETWORKS)

# SOAK="60 10 7" for 60 seconds, 10 devices, seed 7.
torture-soak: ready-for-test
	$(PATHS) $(LUA) spec/torture/soak.lua $(SOAK)

# Processes that are killed, disks whose power is cut, more often than the specs do it.
torture-outbox: ready-for-test
	THINGSBOARD_CYCLES=1000 THINGSBOARD_CUTS=5000 THINGSBOARD_KILLS=200 THINGSBOARD_CRASHES=10000 THINGSBOARD_RECORDS=10000 $(PATHS) $(LUA) $(BUSTED) \
	  spec/outbox_kill_spec.lua spec/outbox_cut_spec.lua spec/outbox_confirm_spec.lua spec/outbox_story_spec.lua \
	  spec/service_kill_spec.lua

# Fuzzing: each target for so many seconds, from the seeds of spec/fuzz/corpus; what is found stays in build/fuzz. RUNS=0
# runs the seeds alone.
SECONDS = 600
FUZZERS = writer decode answer options
FUZZ = $(BUILD)/fuzz
FUZZ_FLAGS = -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer

$(FUZZ)/fuzz: spec/fuzz/fuzz.c $(CORE_SOURCES) $(HEADERS)
	@mkdir -p $(@D)
	clang $(STANDARD) $(WARNINGS) $(FUZZ_FLAGS) -o $@ $< $(CORE_SOURCES) -l$(LUA) -lcurl $(CRYPTO_LIBS_$(CRYPTO)) -lz -lm

fuzz: ready-for-test $(FUZZERS:%=fuzz-%)

fuzz-%: $(FUZZ)/fuzz
	@mkdir -p $(FUZZ)/$*
	$(PATHS) TARGET=$* $(FUZZ)/fuzz $(if $(RUNS),-runs=$(RUNS),-max_total_time=$(SECONDS)) -timeout=20 -max_len=4096 -detect_leaks=0 -verbosity=0 \
	  $(patsubst %,-dict=%,$(wildcard spec/fuzz/$*.dict)) -print_final_stats=1 -artifact_prefix=$(FUZZ)/$*- \
	  $(FUZZ)/$* spec/fuzz/corpus/$*

# Small changes to the code that a spec must notice: MUTANTS="200 7" for 200 of them, drawn by seed 7, "5 7 touching" for
# the specs that touch the changed file only. What none notices is listed.
MUTANTS = 200 $(shell date +%s)
MUTATE = $(BUILD)/mutate/bin/mutate

$(MUTATE):
	python3 -m venv $(BUILD)/mutate
	$(BUILD)/mutate/bin/pip install --quiet --disable-pip-version-check universalmutator==1.14.1

mutants: ready-for-test $(MUTATE)
	$(LUA) spec/mutants/run.lua $(CURDIR)/$(MUTATE) $(CURDIR)/$(BUILD)/mutants $(MUTANTS)

# Lines and branches that the specs reach, with allocations that fail; see CONTRIBUTING.md for what is left.
COVERAGE = $(BUILD)/coverage
COVERAGE_FLAGS = -O0 -g --coverage -isystem $(LUA_INCDIR) -include $(CURDIR)/spec/support/noreturn.h

coverage: ready-for-test
	rm -rf $(COVERAGE)
	$(MAKE) --no-print-directory BUILD=$(COVERAGE) CFLAGS="$(COVERAGE_FLAGS)" LDFLAGS=--coverage
	-LUA_PATH="lua/?.lua;lua/?/init.lua;./?.lua;;" LUA_CPATH="$(COVERAGE)/?.so;;" \
	  $(LUA) $(BUSTED) --helper=spec/support/lines.lua $(SPECS)
	-$(MAKE) --no-print-directory torture-memory BUILD=$(COVERAGE) CFLAGS="$(COVERAGE_FLAGS)" LDFLAGS=--coverage
	gcovr --root . --filter csrc/ $(COVERAGE)
	gcovr --root . --filter csrc/ --branches $(COVERAGE)

lint: all
	luacheck --quiet lua spec examples bench packaging
	$(PATHS) $(LUA) packaging/manual/check.lua
	cppcheck --quiet -Icsrc --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	  --suppress=missingIncludeSystem csrc
	clang-tidy --quiet --warnings-as-errors='*' $(SOURCES) -- $(STANDARD)
	clang-format --dry-run -Werror $(SOURCES) $(HEADERS)
	$(MAKE) --no-print-directory BUILD=$(BUILD)/gcc CC=gcc CFLAGS="-O2 -Werror -fanalyzer"
	strip -s -o $(BUILD)/gcc/stripped.so $(BUILD)/gcc/thingsboard/core.so
	@test $$(wc -c <$(BUILD)/gcc/stripped.so) -le 65536 || { echo "the stripped core has more than 64 KiB"; exit 1; }
	$(MAKE) --no-print-directory BUILD=$(BUILD)/clang CC=clang CFLAGS="-O2 -Werror"
	@if command -v emmylua_check >/dev/null || $(MAKE) --no-print-directory $(EMMYLUA)/bin/emmylua_check; then \
	  $(MAKE) --no-print-directory types-test; else \
	  echo "cargo cannot build emmylua_check here: no sample was held against the editors' types"; fi

# Samples and examples against the editors' types. The checker takes some minutes to build, once.
EMMYLUA = $(BUILD)/emmylua
types-test: ready-for-test $(if $(shell command -v emmylua_check),,$(EMMYLUA)/bin/emmylua_check)
	PATH="$(CURDIR)/$(EMMYLUA)/bin:$$PATH" $(PATHS) $(LUA) $(BUSTED) spec/types_spec.lua

$(EMMYLUA)/bin/emmylua_check:
	CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
	  cargo install --quiet --locked --root $(EMMYLUA) --version 0.25.1 emmylua_check

# The types for editors, written from the comments and the lists of options; `make lint` holds them against those.
types: all
	$(PATHS) $(LUA) packaging/manual/types.lua packaging/types

# The manual: HTML that needs no network, in build/doc. Without lua-discount LDoc leaves Markdown as it is.
doc: all
	rm -rf build/doc build/reference
	mkdir -p build/reference
	$(PATHS) $(LUA) packaging/manual/reference.lua build/reference
	cd packaging/manual && ldoc --fatalwarnings --testing -q -c config.ld . >/dev/null
	@grep -q '<table>' build/doc/guide/errors.md.html || { echo "lua-discount is missing"; exit 1; }
	$(LUA) packaging/manual/index.lua build/doc

# The command's man page, written from what its subcommands say of themselves, and the guide's page of options.
man: all
	$(PATHS) $(LUA) packaging/manual/man.lua packaging/manual/thingsboard.1
	$(PATHS) $(LUA) packaging/manual/options.lua packaging/manual/guide/options.md

format:
	clang-format -i $(SOURCES) $(HEADERS)

# What a program of bench/ cannot measure here it says; a benchmark never fails a build.
BENCHES = post flight payload idle fleet firmware footprint outbox service
BENCH_PROGRAMS = $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c))

BENCH_LIBS = -lcurl
$(BUILD)/bench/insert: BENCH_LIBS = -lsqlite3

$(BUILD)/bench/%: bench/%.c bench/post.h
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE $(WARNINGS) $(CFLAGS) -o $@ $< $(BENCH_LIBS)

bench: all $(BENCH_PROGRAMS)
	-@for bench in $(BENCHES); do BUILD=$(BUILD) $(PATHS) $(LUA) bench/bench_$$bench.lua || true; done
	-@$(LUA) bench/picture.lua $(BUILD)/bench bench/figures.svg

include packaging/packages.mk
include spec/stacks/stacks.mk

clean:
	rm -rf $(BUILD)

deps:
	@./.ci/deps

.PHONY: all install install-emulator uninstall demo test types-test page-test run emulator memcheck sanitize collect torture torture-memory torture-network \
  torture-soak torture-outbox fuzz mutants coverage lint types man doc format bench clean deps
