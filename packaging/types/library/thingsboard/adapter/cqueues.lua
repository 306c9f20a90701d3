---@meta thingsboard.adapter.cqueues

local adapter = {}

---From now on a call in a coroutine of the loop suspends that coroutine alone.
---@param controller any
function adapter.attach(controller) end

return adapter
