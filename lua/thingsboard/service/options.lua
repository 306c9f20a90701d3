--- What a configuration file of the service and the command may hold in addition to the options of `tb.device`: name,
-- type, default and meaning. The guide shows it.
-- @module thingsboard.service.options
return {
  { name = "derive", type = "table",
    doc = "the token is computed from `id_file`, whose first line is a hardware id, and `secret_file`, which holds " ..
      "the secret of the fleet" },
  { name = "provision", type = "table",
    doc = "the token is asked for: options of `tb.provision` with a `store`; `secret_file` may stand for `secret`" },
  { name = "scripts", type = "text", doc = "the folder of the scripts: each `*.lua` in it is one" },
  { name = "outbox", type = "table",
    doc = "options of `dev:outbox`; without them values are sent at once, and lost when that fails" },
  { name = "collectors", type = "table", doc = "the collectors to run, each by its name with a table of its options" },
  { name = "updates", type = "table",
    doc = "options of `dev:updates`, or a list of such. `apply` is the path of an executable; without it a script " ..
      "installs packages by `on_update`" },
  { name = "report", type = "table",
    doc = "the service's own values are sent: `every` so many seconds, 300 by default, `as` `\"telemetry\"` (by " ..
      "default) or `\"attributes\"`" },
  { name = "state", type = "text", doc = "a file that gets the service's state each minute, as JSON" },
  { name = "clock_file", type = "text", doc = "a file that a hook of NTP makes when the clock is set: see `tb.clock`" },
  { name = "log", type = "error|warning|info|debug", default = "info", doc = "what is less important is not logged" },
}
