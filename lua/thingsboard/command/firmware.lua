--- `thingsboard firmware`: downloads the assigned firmware.
-- @module thingsboard.command.firmware
return require("thingsboard.command.package").subcommand "firmware"
