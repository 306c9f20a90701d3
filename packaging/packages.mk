# What a release is made of: `make dist` the tarball, the rockspec and the source rock.

VERSION := $(shell sed -n 's/^return "\(.*\)"$$/\1/p' lua/thingsboard/version.lua)
DIST = $(BUILD)/dist
RELEASE = thingsboard-$(VERSION)
# Where the release's rockspec says that the source is; LuaRocks clones it into a folder of that name, and looks for that
# folder in a source rock too.
SOURCE_URL ?= $(patsubst /%,git+file:///%,$(patsubst https://%,git+https://%,$(or $(shell git config remote.origin.url),git+file://thingsboard)))
SOURCE_FOLDER = $(notdir $(SOURCE_URL:%.git=%))

# The same commit gives the same bytes: no names, no times but the commit's.
COMMIT_TIME = $$(git log -1 --format=%ct)

dist: $(DIST)/$(RELEASE).tar.gz $(DIST)/$(RELEASE)-1.rockspec $(DIST)/$(RELEASE)-1.src.rock

.PHONY: $(DIST)/$(RELEASE).tar.gz
$(DIST)/$(RELEASE).tar.gz:
	@mkdir -p $(@D)
	$(call run,DIST,git archive --prefix=$(RELEASE)/ HEAD | gzip -9n >$@)

$(DIST)/$(RELEASE)-1.rockspec: thingsboard-scm-1.rockspec packaging/luarocks/release.lua lua/thingsboard/version.lua
	@mkdir -p $(@D)
	$(call run,DIST,$(LUA) packaging/luarocks/release.lua $< $(VERSION) $(SOURCE_URL) >$@)

$(DIST)/$(RELEASE)-1.src.rock: $(DIST)/$(RELEASE).tar.gz $(DIST)/$(RELEASE)-1.rockspec
	$(call run,DIST,rm -rf $(DIST)/rock $@ && mkdir -p $(DIST)/rock/$(SOURCE_FOLDER) && \
	  tar -xzf $< --strip-components=1 -C $(DIST)/rock/$(SOURCE_FOLDER) && \
	  cp $(DIST)/$(RELEASE)-1.rockspec $(DIST)/rock && cd $(DIST)/rock && \
	  find . -exec touch -h -d @$(COMMIT_TIME) {} + && \
	  find . -mindepth 1 | LC_ALL=C sort | TZ=UTC zip -qX@ ../$(@F) && rm -rf ../rock)

# The source rock, installed into an empty tree without a network, passes the specs. The emulator's command is not in it.
ROCK_TREE = $(CURDIR)/$(DIST)/tree
rock-test: ready-for-test dist
	rm -rf $(ROCK_TREE)
	echo 'rocks_provided = { ["lua-cjson"] = "2.1.0-1" }' >$(DIST)/luarocks.lua
	LUAROCKS_CONFIG=$(DIST)/luarocks.lua luarocks --lua-version 5.4 --only-server=$(DIST) --tree $(ROCK_TREE) install \
	  $(DIST)/$(RELEASE)-1.src.rock
	cd / && $(ROCK_TREE)/bin/thingsboard --version
	$(MAKE) --no-print-directory test SPECS="$(filter-out spec/emulator_command_spec.lua,$(SPECS))" \
	  PATHS='LUA_PATH="$(ROCK_TREE)/share/lua/5.4/?.lua;$(ROCK_TREE)/share/lua/5.4/?/init.lua;./?.lua;;" \
	    LUA_CPATH="$(ROCK_TREE)/lib/lua/5.4/?.so;;"'

# Debian's packages, of the tarball and packaging/debian, below build/deb.
DEB = $(BUILD)/deb
deb: $(DIST)/$(RELEASE).tar.gz
	rm -rf $(DEB)
	mkdir -p $(DEB)
	tar -xzf $< -C $(DEB)
	cp -r packaging/debian $(DEB)/$(RELEASE)/debian
	printf 'lua-thingsboard (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- %s  %s\n' $(VERSION) \
	  "$$(sed -n 's/^Maintainer: //p' packaging/debian/control)" "$$(date -uRd @$(COMMIT_TIME))" \
	  >$(DEB)/$(RELEASE)/debian/changelog
	cd $(DEB)/$(RELEASE) && dpkg-buildpackage -us -uc -b

# They are installed, used, upgraded and purged on a bare machine.
deb-test: deb
	packaging/debian-test $(DEB)

# OpenWrt's feed, of the tarball and packaging/openwrt.
FEED = $(BUILD)/openwrt/feed
HOME_URL ?= $(patsubst %.git,%,$(or $(shell git config remote.origin.url),https://thingsboard.example))
openwrt: $(DIST)/$(RELEASE).tar.gz
	rm -rf $(FEED)
	mkdir -p $(FEED)
	cp -r packaging/openwrt/thingsboard $(FEED)
	rm $(FEED)/thingsboard/Makefile.in
	sed -e 's|@VERSION@|$(VERSION)|' -e "s|@HASH@|$$(sha256sum <$< | cut -c -64)|" -e '1d' -e 's|@URL@|$(HOME_URL)|' \
	  -e 's|@SOURCE_URL@|$(HOME_URL)/releases/download/v$(VERSION)|' \
	  -e "s|@MAINTAINER@|$$(sed -n 's/^Maintainer: //p' packaging/debian/control)|" \
	  packaging/openwrt/thingsboard/Makefile.in >$(FEED)/thingsboard/Makefile

# Built for a router by a stand-in of OpenWrt's build system, installed into a root with busybox, and used there.
openwrt-test: openwrt ready-for-test
	spec/stacks/router mips $(STACKS)
	rm -rf $(BUILD)/openwrt/mips
	$(MAKE) --no-print-directory -C $(FEED)/thingsboard TOPDIR=$(CURDIR)/spec/openwrt STACK=$(CURDIR)/$(STACKS)/mips \
	  DL=$(CURDIR)/$(DIST) OUT=$(CURDIR)/$(BUILD)/openwrt/mips
	PACKAGES=$(BUILD)/openwrt/mips STACK=$(STACKS)/mips ROOT=$(CURDIR)/$(BUILD)/openwrt/root $(PATHS) $(LUA) $(BUSTED) \
	  spec/openwrt/openwrt_spec.lua

release-check:
	@packaging/release-check

.PHONY: dist rock-test deb deb-test openwrt openwrt-test release-check
