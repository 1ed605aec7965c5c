-- Three fields and a line: what every contender's handler does.
local line

return {
  queue = "bench.work",
  bind = false,
  handle = function(event)
    local ticket = event.payload
    line = "ticket created " .. ticket.id .. " " .. ticket.title .. " " .. ticket.ownerId
  end,
}
