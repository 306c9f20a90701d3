---@meta thingsboard.loop

---@type thingsboard.loop_module
local loop_module

return loop_module
