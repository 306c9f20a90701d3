--- `thingsboard firmware`.
-- @module thingsboard.command.firmware
return require("thingsboard.command.package").subcommand("firmware", "fw_")
