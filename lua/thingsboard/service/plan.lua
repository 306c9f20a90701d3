--- Budgets of known plans, for `plan` in the configuration of an outbox.
-- @module thingsboard.service.plan
local plan = {}

-- Of a device, as the provider's limits are written.
local budgets = {
  ["cloud-free"] = { messages = "50:1,600:60,7000:3600", points = "100:1,2000:60,15000:3600" },
}

--- Puts a plan's budgets in place of its name, where the outbox has none of its own.
-- @tparam table wanted the options of an outbox, with `plan` or without; raises when there is no such plan
function plan.apply(wanted)
  if wanted.plan == nil then return end
  local budget = budgets[wanted.plan]
  if not budget then error(("outbox: there is no plan '%s'; known: cloud-free"):format(tostring(wanted.plan)), 0) end
  wanted.plan = nil
  wanted.messages, wanted.points = wanted.messages or budget.messages, wanted.points or budget.points
end

return plan
