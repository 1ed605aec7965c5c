-- A ticket moved on: who waits for it wants to know.
return {
  handle = function(event, ctx)
    local ticket = event.payload
    ctx.log.info("ticket status changed", {
      ticket = ticket.id,
      from = ticket.oldStatus,
      to = ticket.newStatus,
    })
    ctx.log.info("[FAKE] status notification to ticket owner", { ticket = ticket.id })

    local count = ctx.cache.invalidate("tickets:list:*", "tickets:" .. ticket.id)
    ctx.log.info("invalidated cache keys", { count = count })
  end,
}
