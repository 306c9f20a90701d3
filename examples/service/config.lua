-- A configuration of `thingsboard service`, for /etc/thingsboard/config.lua. It returns a table, and can call no
-- function. Only the url and the identity are required. Relative paths begin in the configuration's folder.
return {
  url = "https://thingsboard.example",

  -- Who we are: a file with the access token, mode 0600, or 0640 where root owns what the service's group reads ...
  token_file = "/etc/thingsboard/token",
  -- ... or a token that is computed from a hardware id and a secret of the fleet, which survives a factory reset ...
  -- derive = { id_file = "/sys/class/net/eth0/address", secret_file = "/etc/thingsboard/fleet" },
  -- ... or provisioning by a device profile, once; `store` keeps the credentials. With `anew = true` it is asked again
  -- when the server does not know the token any more.
  -- provision = { key = "...", secret_file = "/etc/thingsboard/secret", store = "/var/lib/thingsboard/credentials" },

  -- Any other option of `tb.device`: ca_file, verify, proxy, interface, timeout, ...

  -- What scripts put is kept here until the server has it. The options are those of `dev:outbox`; `plan` stands for the
  -- rate limits of ThingsBoard Cloud's free plan.
  outbox = { path = "/var/lib/thingsboard/outbox", max_bytes = 16 * 1024 * 1024, plan = "cloud-free" },

  -- The device scripts: each *.lua in here. SIGHUP loads what has changed.
  scripts = "/etc/thingsboard/scripts",

  -- What is measured without a script; `every` in seconds.
  collectors = {
    load = { every = 60 },
    memory = {},
    storage = { paths = { "/", "/overlay" }, every = 600 },
    network = { interfaces = { "br-lan", "wan" } },
    wifi = {},
    temperature = {},
    dhcp = {},
  },

  -- Firmware: an executable installs it; see update-sysupgrade and update-dpkg in this folder. Without `apply` a
  -- script does, by device:on_update(function(package) ... end), and `current` tells what runs.
  updates = {
    kind = "firmware", directory = "/var/lib/thingsboard", package_directory = "/tmp", strong = true,
    apply = "/usr/lib/thingsboard/update-sysupgrade",
  },

  -- The service's own values, every so many seconds, as "telemetry" or "attributes"; and a file that `thingsboard
  -- outbox status` reads while the service has the outbox. SIGUSR1 writes them into the log.
  report = { every = 300, as = "telemetry" },
  state = "/run/thingsboard/state",

  log = "info", -- or error, warning, debug
}
