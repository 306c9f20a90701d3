# A stand-in for the part of OpenWrt's build system that the feed's Makefile uses, written for the specs: rules.mk and
# include/package.mk of a buildroot set these variables, and define BuildPackage. The cross compiler and the staged
# libraries are those of `make router-test`. It makes no .ipk: an archive of a package's files, as large as one.
#
# From outside come STACK, the router's libraries; DL, the folder of the tarball; OUT, where all goes.
STAGING_DIR := $(STACK)/root
INCLUDE_DIR := $(TOPDIR)
TARGET_CC := $(STACK)/bin/cc
# clang writes tables for unwinding where OpenWrt's gcc does not.
TARGET_CFLAGS := -Os -pipe -fno-unwind-tables
TARGET_CPPFLAGS := -isystem $(STAGING_DIR)/usr/include
TARGET_LDFLAGS := -L$(STAGING_DIR)/usr/lib -s
FPIC := -fPIC

INSTALL_DIR := install -d -m0755
INSTALL_BIN := install -m0755
INSTALL_DATA := install -m0644
INSTALL_CONF := install -m0600
CP := cp -fpR
RM := rm -f
