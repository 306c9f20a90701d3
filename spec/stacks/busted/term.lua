-- What busted asks of lua-term, where that is not built.
return { isatty = function() return false end }
