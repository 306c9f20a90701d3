--- The options of an outbox: name, type, default and meaning. The guide shows them.
-- @module thingsboard.outbox.options
return {
  { name = "path", type = "text!", doc = "the file; one process at a time can use it" },
  { name = "name", type = "text", default = "device", doc = "tells devices that share a file apart" },
  { name = "sync_every", type = "positive number",
    doc = "seconds between commits, which saves flash memory; without it every `put` is a commit" },
  { name = "batch_bytes", type = "positive integer", default = 256 * 1024, doc = "the largest post, in bytes" },
  { name = "batch_records", type = "positive integer", default = 10000, doc = "the most records of a post" },
  { name = "batch_points", type = "positive integer", default = 100000,
    doc = "the most points of a post; a point is a value of a key" },
  { name = "messages", type = "text",
    doc = "limits for requests, in the server's notation of amounts and seconds: `\"20:1,600:60\"`; without it " ..
      "they are " ..
      "learned" },
  { name = "points", type = "text", doc = "limits for points, in the same notation; without it they are learned" },
  { name = "plan", type = "cloud-free",
    doc = "`\"cloud-free\"`: sets `messages` and `points` to the limits of ThingsBoard Cloud's free plan, " ..
      "unless they are given" },
  { name = "confirm", type = "boolean", default = true,
    doc = "a record stays in the file until the server has shown that it is stored; with `false` until the post " ..
      "is answered 200" },
  { name = "confirm_key", type = "text", default = "outbox_marker",
    doc = "the client attribute that serves as the marker; outboxes of one device that send at the same time are " ..
      "faster with one each. An attribute, or telemetry, with this name and `_sample` is posted while it is proved " ..
      "that the server refuses another" },
  { name = "max_records", type = "positive integer", doc = "the most records that may wait" },
  { name = "max_bytes", type = "positive integer", default = 64 * 1024 * 1024,
    doc = "the most bytes of the file and its log together, 64 KiB or more; by default at most half the file system" },
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
