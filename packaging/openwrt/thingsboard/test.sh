#!/bin/sh
# What OpenWrt's builders run of each package once it is installed: test.sh PACKAGE VERSION

case "$1" in
lua-thingsboard)
	lua5.4 -e 'local version = require("thingsboard").version; assert(version == arg[1], version)' - "$2" </dev/null
	;;
lua-thingsboard-outbox)
	lua5.4 -e 'assert(require "thingsboard.spool"); assert(require "thingsboard.outbox")'
	;;
thingsboard)
	thingsboard --version | grep -F "$2" && sh -n /etc/init.d/thingsboard
	;;
esac
