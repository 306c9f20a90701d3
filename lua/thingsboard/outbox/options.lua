--- The options of an outbox: name, type, default and what it means. The README shows the same table.
-- @module thingsboard.outbox.options
return {
  { name = "path", type = "text!", doc = "the file; one process has it at a time" },
  { name = "name", type = "text", default = "device", doc = "of this device, where several devices share a file" },
  { name = "sync_every", type = "positive number",
    doc = "seconds in which commits are grouped, for flash that wears; without it every `put` is a commit" },
  { name = "batch_bytes", type = "positive integer", default = 256 * 1024, doc = "the largest post" },
  { name = "batch_records", type = "positive integer", default = 10000, doc = "the most records of a post" },
  { name = "batch_points", type = "positive integer", default = 100000,
    doc = "the most points of a post; a point is a value of a key" },
  { name = "messages", type = "text",
    doc = "how many requests may be sent, as the server's limits are written: `\"20:1,600:60\"`; without it this is " ..
      "learned" },
  { name = "points", type = "text", doc = "how many points may be sent, written and learned alike" },
  { name = "plan", type = "cloud-free",
    doc = "`\"cloud-free\"`: `messages` and `points` of ThingsBoard Cloud's free plan, where these are not given" },
  { name = "confirm", type = "boolean", default = true,
    doc = "what is sent stays in the file until the server has shown that it is stored; with `false` until it is " ..
      "answered 200" },
  { name = "confirm_key", type = "text", default = "outbox_marker",
    doc = "the client attribute that shows this" },
  { name = "max_records", type = "positive integer", doc = "how many records may wait" },
  { name = "max_bytes", type = "positive integer", default = 64 * 1024 * 1024,
    doc = "how much the file and its log may take, 64 KiB at least; by default at most half the file system" },
  { name = "max_age", type = "age", doc = "seconds after which a record is dropped" },
  { name = "when_full", type = "drop_oldest|refuse", default = "drop_oldest",
    doc = "or `\"refuse\"`: `put` returns nil and an error of the kind `full`" },
  { name = "on_trouble", type = "error|memory", default = "error",
    doc = "while the disk fails, `put` returns nil and an error of the kind `file`; with `\"memory\"` up to 10,000 " ..
      "records wait in memory until it works again" },
  { name = "server_time", type = "boolean", default = true,
    doc = "where the server's `Date` differs from the system's clock by more than a minute, it dates records, to a " ..
      "second; `false`: they wait until the clock is known" },
}
