-- A ticket's text changed: the lists and its own page show the old one.
return {
  handle = function(event, ctx)
    local ticket = event.payload
    ctx.log.info("ticket updated", { ticket = ticket.id })
    ctx.log.info("[FAKE] update notification to ticket watchers", { ticket = ticket.id })

    local count = ctx.cache.invalidate("tickets:list:*", "tickets:" .. ticket.id)
    ctx.log.info("invalidated cache keys", { count = count })
  end,
}
