rockspec_format = "3.0"
package = "thingsboard"
version = "scm-1"
source = { url = "git+file://." }
description = {
  summary = "The ThingsBoard HTTP device API for Lua, in plain calls and in coroutines",
  detailed = [[Telemetry, attributes, RPC, claiming, provisioning, firmware and software, over libcurl: for scripts on
embedded Linux, and for daemons that have an event loop of their own.]],
  license = "MIT",
  labels = { "iot", "thingsboard", "http", "telemetry", "rpc" },
}
supported_platforms = { "linux" }
dependencies = { "lua >= 5.4, < 5.5", "lua-cjson >= 2.1.0" }
external_dependencies = {
  CURL = { library = "curl" },
  CRYPTO = { library = "crypto" },
  ZLIB = { library = "z" },
  SQLITE = { library = "sqlite3" },
}
build = {
  type = "builtin",
  modules = {
    ["thingsboard.adapter.copas"] = "lua/thingsboard/adapter/copas.lua",
    ["thingsboard.adapter.cqueues"] = "lua/thingsboard/adapter/cqueues.lua",
    ["thingsboard.adapter.eco"] = "lua/thingsboard/adapter/eco.lua",
    ["thingsboard.adapter.luv"] = "lua/thingsboard/adapter/luv.lua",
    ["thingsboard.attributes"] = "lua/thingsboard/attributes.lua",
    ["thingsboard.backoff"] = "lua/thingsboard/backoff.lua",
    ["thingsboard.budget"] = "lua/thingsboard/budget.lua",
    ["thingsboard.check"] = "lua/thingsboard/check.lua",
    ["thingsboard.client"] = "lua/thingsboard/client.lua",
    ["thingsboard.clock"] = "lua/thingsboard/clock.lua",
    ["thingsboard.device"] = "lua/thingsboard/device.lua",
    ["thingsboard.error"] = "lua/thingsboard/error.lua",
    ["thingsboard"] = "lua/thingsboard/init.lua",
    ["thingsboard.json"] = "lua/thingsboard/json.lua",
    ["thingsboard.loop"] = "lua/thingsboard/loop.lua",
    ["thingsboard.ota"] = "lua/thingsboard/ota.lua",
    ["thingsboard.outbox"] = "lua/thingsboard/outbox.lua",
    ["thingsboard.partial"] = "lua/thingsboard/partial.lua",
    ["thingsboard.payload"] = "lua/thingsboard/payload.lua",
    ["thingsboard.poll"] = "lua/thingsboard/poll.lua",
    ["thingsboard.provision"] = "lua/thingsboard/provision.lua",
    ["thingsboard.rpc"] = "lua/thingsboard/rpc.lua",
    ["thingsboard.sender"] = "lua/thingsboard/sender.lua",
    ["thingsboard.store"] = "lua/thingsboard/store.lua",
    ["thingsboard.timers"] = "lua/thingsboard/timers.lua",
    ["thingsboard.update"] = "lua/thingsboard/update.lua",
    ["thingsboard.core"] = {
      sources = {
        "csrc/body.c",
        "csrc/buffer.c",
        "csrc/checksum.c",
        "csrc/client.c",
        "csrc/clock.c",
        "csrc/core.c",
        "csrc/exchange.c",
        "csrc/file.c",
        "csrc/fork.c",
        "csrc/json.c",
        "csrc/murmur3.c",
        "csrc/number.c",
        "csrc/pool.c",
        "csrc/reactor.c",
        "csrc/secret.c",
        "csrc/type.c",
      },
      defines = { "_GNU_SOURCE" },
      incdirs = { "$(CURL_INCDIR)", "$(CRYPTO_INCDIR)", "$(ZLIB_INCDIR)" },
      libdirs = { "$(CURL_LIBDIR)", "$(CRYPTO_LIBDIR)", "$(ZLIB_LIBDIR)" },
      libraries = { "curl", "crypto", "z" },
    },
    ["thingsboard.spool"] = {
      sources = {
        "csrc/buffer.c",
        "csrc/disk.c",
        "csrc/fork.c",
        "csrc/json.c",
        "csrc/memory.c",
        "csrc/number.c",
        "csrc/run.c",
        "csrc/spool.c",
        "csrc/times.c",
        "csrc/type.c",
      },
      defines = { "_GNU_SOURCE" },
      incdirs = { "$(SQLITE_INCDIR)" },
      libdirs = { "$(SQLITE_LIBDIR)" },
      libraries = { "sqlite3" },
    },
  },
}
