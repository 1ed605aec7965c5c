-- A message in a ticket. It changes no list, so there is nothing to invalidate.
return function(event, ctx)
  local message = event.payload
  ctx.log.info("message sent", { ticket = message.ticketId, author = message.authorId })
  ctx.log.info("[FAKE] message notification to ticket watchers", { ticket = message.ticketId })
end
