-- A new ticket: tell its owner, and let the lists be read afresh.
return {
  handle = function(event, ctx)
    local ticket = event.payload
    ctx.log.info("ticket created", { ticket = ticket.id })
    ctx.log.info("[FAKE] email to ticket owner", { owner = ticket.ownerId })

    local count = ctx.cache.invalidate("tickets:list:*")
    ctx.log.info("invalidated cache keys", { count = count })
  end,
}
