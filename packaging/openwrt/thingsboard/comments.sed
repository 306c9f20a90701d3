# Comments go and lines stay, so that errors tell the same lines. A comment behind code goes if it has no quote, which may be
# the end of a string.
s/^ *--.*//
s/ *-- [^"']*$//
