---@meta thingsboard.adapter.eco

local adapter = {}

---From now on a call in a coroutine of the loop suspends that coroutine alone.
function adapter.attach() end

return adapter
