--- The release: the one place of its number. Packages, documentation and the command read it here.
-- @module thingsboard.version
return "0.2.0"
