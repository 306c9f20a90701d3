--- `thingsboard software`: downloads the assigned software.
-- @module thingsboard.command.software
return require("thingsboard.command.package").subcommand "software"
