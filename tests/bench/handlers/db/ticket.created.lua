-- The same, and one UPDATE in the transaction that holds the ledger's record.
local line

return {
  queue = "bench.work",
  bind = false,
  handle = function(event, ctx)
    local ticket = event.payload
    line = "ticket created " .. ticket.id .. " " .. ticket.title .. " " .. ticket.ownerId
    ctx.db.exec("UPDATE bench_owners SET tickets = tickets + 1 WHERE id = $1", math.random(10000))
  end,
}
