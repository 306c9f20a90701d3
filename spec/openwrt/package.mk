# See rules.mk beside this file.
PKG_BUILD_DIR := $(OUT)/$(PKG_NAME)-$(PKG_VERSION)
PKG_INSTALL_DIR := $(OUT)/install

.PHONY: all
.DEFAULT_GOAL := all

# The tarball is what its hash says.
$(OUT)/.prepared:
	mkdir -p $(OUT)
	echo "$(PKG_HASH)  $(DL)/$(PKG_SOURCE)" | sha256sum --check --quiet
	tar -xzf $(DL)/$(PKG_SOURCE) -C $(OUT)
	touch $@

$(OUT)/.compiled: $(OUT)/.prepared
	$(call Build/Compile)
	touch $@

# Of each package: its files, its conffiles, and an archive.
define BuildPackage
$(foreach field,TITLE DEPENDS,$(if $(findstring $(field):=,$(value Package/$(1))),,$(error $(1) has no $(field))))

all: $(OUT)/$(1).tar.gz

$(OUT)/$(1).tar.gz: $(OUT)/.compiled
	rm -rf $(OUT)/packages/$(1)
	mkdir -p $(OUT)/packages/$(1)
	$$(call Package/$(1)/install,$(OUT)/packages/$(1))
	$$(file >$(OUT)/$(1).conffiles,$$(Package/$(1)/conffiles))
	$$(file >$(OUT)/$(1).postrm,$$(Package/$(1)/postrm))
	find $(OUT)/packages/$(1) -type f -exec lua5.4 $(TOPDIR)/sstrip.lua {} +
	tar -C $(OUT)/packages/$(1) --numeric-owner --owner=0 --group=0 --sort=name -cf - . | gzip -9n >$$@
endef
